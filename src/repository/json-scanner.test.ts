import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { JsonScanner, keys } from "./json-scanner.ts";

const scanner = (text: string): JsonScanner => new JsonScanner(Buffer.from(text));

/** Reads a whole text with `skip`: whether it is JSON to the scanner. */
function accepts(bytes: Uint8Array): boolean {
  const json = new JsonScanner(bytes);
  try {
    json.skip();
    json.end();
    return true;
  } catch (error) {
    if (error instanceof SyntaxError) return false;
    throw error;
  }
}

describe("skip", () => {
  test("accepts whatever JSON.stringify writes, with any white space", () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 8 }), fc.constantFrom(0, 1, "\t"), (value, space) => {
        expect(accepts(Buffer.from(` ${JSON.stringify(value, null, space)}\n`))).toBe(true);
      }),
    );
  });

  test("accepts nothing that was cut off", () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.double({ min: 0, max: 1, noNaN: true }), (value, cut) => {
        const text = JSON.stringify({ value, more: [1] });
        expect(accepts(Buffer.from(text.slice(0, Math.floor(cut * (text.length - 1)))))).toBe(false);
      }),
    );
  });

  test("ends, with a verdict, on any bytes", () => {
    const jsonLike = fc.string({ unit: fc.constantFrom(...'{}[]",:\\ntrue0-1.e5 \n'), maxLength: 60 });
    fc.assert(
      fc.property(fc.oneof(jsonLike, fc.string()), (text) => {
        let genuine = true;
        try {
          JSON.parse(text);
        } catch {
          genuine = false;
        }
        // It is allowed to be laxer inside strings that it never reads, but not to refuse what is JSON.
        if (genuine) expect(accepts(Buffer.from(text))).toBe(true);
        else accepts(Buffer.from(text));
      }),
      { numRuns: 2000 },
    );
  });

  test("refuses nesting that would use up the stack", () => {
    expect(accepts(Buffer.from("[".repeat(1_000_000)))).toBe(false);
    expect(accepts(Buffer.from('{"a":'.repeat(1_000_000)))).toBe(false);
  });
});

test("values read are those that JSON.parse reads", () => {
  const record = fc.record({ a: fc.string(), b: fc.nat(), c: fc.array(fc.nat()), d: fc.jsonValue() });
  fc.assert(
    fc.property(record, (value) => {
      const json = scanner(JSON.stringify(value));
      const read = { a: "", b: -1, c: [] as number[] };
      json.object(keys("a", "b", "c"), (key) => {
        if (key === 0) read.a = json.string(10_000);
        else if (key === 1) read.b = json.integer();
        else if (key === 2) json.array(() => read.c.push(json.integer()));
        else json.skip();
      });
      json.end();
      const { a, b, c } = value;
      expect(read).toEqual({ a, b, c });
    }),
  );
});

test("hex reads ids, and nothing that is none", () => {
  const into = new Uint8Array(6);
  scanner('"00ff7a"').hex(into, 2, 3);
  expect([...into]).toEqual([0, 0, 0, 0xff, 0x7a, 0]);
  for (const bad of ['"00ff7"', '"00ff7a0"', '"00FF7A"', '"00ff7g"', "00ff7a", '"00ff7a', '"\\u003000ff"', ""]) {
    expect(() => scanner(bad).hex(into, 0, 3)).toThrow(SyntaxError);
  }
});

test("integers are those that a size or an offset can be", () => {
  for (const good of [0, 7, 4_294_967_296, 999_999_999_999_999]) expect(scanner(`${good} `).integer()).toBe(good);
  for (const bad of ["-1", "1.5", "1e3", "1E3", "1000000000000000", '"1"', "null", "", "NaN"]) {
    expect(() => scanner(bad).integer()).toThrow(SyntaxError);
  }
});

test("a string over its limit is refused", () => {
  expect(scanner('"äö"').string(4)).toBe("äö");
  expect(scanner('"\\"\\u00e4\\\\"').string(20)).toBe('"ä\\');
  expect(() => scanner('"12345"').string(4)).toThrow(SyntaxError);
  expect(() => scanner('"a\\x"').string(20)).toThrow(SyntaxError);
});
