import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { type LvmValue, parseLvmText } from "./lvm-text.ts";

/** As plain objects. */
function plain(value: LvmValue | undefined): unknown {
  if (value instanceof Map) return Object.fromEntries([...value].map(([key, item]) => [key, plain(item)]));
  return value;
}

test("reads sections, numbers, strings and lists, over lines and with comments", () => {
  const text = `# made by hand
  vg-0.x+1 {
    id = "a\\"b\\\\c"\t# behind a value
    size = 8192 share=-2.5
    status = ["READ",
      "WRITE"]
    flags = []
    inner { stripes = ["pv0", 0, "pv1", 7,] }
  }
  version = 1 # the end`;
  expect(plain(parseLvmText(text))).toEqual({
    "vg-0.x+1": {
      id: 'a"b\\c',
      size: 8192,
      share: -2.5,
      status: ["READ", "WRITE"],
      flags: [],
      inner: { stripes: ["pv0", 0, "pv1", 7] },
    },
    version: 1,
  });
  expect(plain(parseLvmText(""))).toEqual({});
});

test.each(["a", "a =", "a = }", "a {", "a { b = 1", "a = [1", "}", "a } b", "= 1", 'a = "x', "a = ]", "a == 1", "[ ]"])(
  "%s is none",
  (text) => expect(parseLvmText(text)).toBeUndefined(),
);

test("nesting has an end", () => {
  const nested = (depth: number): string => `${"a {".repeat(depth)}${"}".repeat(depth)}`;
  expect(parseLvmText(nested(8))).toBeDefined();
  expect(parseLvmText(nested(9))).toBeUndefined();
  expect(parseLvmText(nested(100_000))).toBeUndefined();
});

test("a text of more pieces than any group has is none, and is not looked at to its end", () => {
  expect(parseLvmText("a=1 ".repeat(20_000))).toBeDefined();
  expect(parseLvmText("a=1 ".repeat(40_000))).toBeUndefined();
});

test("any text ends in a section or in nothing", () => {
  const piece = fc.constantFrom(
    "a",
    "{",
    "}",
    "=",
    "[",
    "]",
    ",",
    '"',
    '"x"',
    "1",
    "-",
    "#",
    "\n",
    " ",
    "\\",
    "\0",
    "é",
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 60 }), (pieces) => {
      const parsed = parseLvmText(pieces.join(""));
      expect(parsed === undefined || parsed instanceof Map).toBe(true);
    }),
    { numRuns: 2000 },
  );
});
