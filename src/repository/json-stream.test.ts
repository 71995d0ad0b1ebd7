import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { keys } from "./json-scanner.ts";
import { JsonStream, type Reading, readPieces } from "./json-stream.ts";
import { inPieces } from "./testing/in-pieces.ts";

const KEYS = keys("list", "objects", "rest");

/** Reads `{list: integers, objects: [{list, rest}], rest: anything}`, with everything that a stream has. */
function* read(stream: JsonStream): Reading<{ list: number[]; objects: unknown[] }> {
  const { json } = stream;
  const list: number[] = [];
  const objects: unknown[] = [];
  yield* stream.object(KEYS, (key) => {
    if (key === 0) return stream.list(() => void list.push(json.integer()));
    if (key !== 1) return stream.skip();
    return stream.array(function* () {
      const inner: number[] = [];
      yield* stream.object(KEYS, (innerKey) =>
        innerKey === 0 ? stream.list(() => void inner.push(json.integer())) : stream.skip(),
      );
      objects.push(inner);
    });
  });
  yield* stream.end();
  return { list, objects };
}

function parse(text: string, pieceLength: number): Promise<{ list: number[]; objects: unknown[] }> {
  const stream = new JsonStream();
  return readPieces(stream, read(stream), inPieces(Buffer.from(text), pieceLength));
}

const integers = fc.array(fc.nat(), { maxLength: 20 });
const value = fc.record({
  rest: fc.jsonValue({ maxDepth: 4 }),
  list: integers,
  objects: fc.array(fc.record({ rest: fc.jsonValue({ maxDepth: 3 }), list: integers }), { maxLength: 6 }),
});

test("wherever the text is cut into pieces, the same is read", async () => {
  await fc.assert(
    fc.asyncProperty(
      value,
      fc.constantFrom(0, 1, "\t"),
      fc.integer({ min: 1, max: 80 }),
      async (each, space, length) => {
        const found = await parse(` ${JSON.stringify(each, null, space)} `, length);
        expect(found).toEqual({ list: each.list, objects: each.objects.map(({ list }) => list) });
      },
    ),
  );
});

test("a text that ends too early, or goes on behind its end, is refused", async () => {
  await fc.assert(
    fc.asyncProperty(value, fc.nat(), fc.integer({ min: 1, max: 80 }), async (each, cut, length) => {
      const text = JSON.stringify(each);
      await expect(parse(text.slice(0, cut % text.length), length)).rejects.toBeInstanceOf(SyntaxError);
      await expect(parse(`${text}x`, length)).rejects.toBeInstanceOf(SyntaxError);
    }),
  );
});

test("the error names the byte of the whole text", async () => {
  const text = JSON.stringify({ list: Array.from({ length: 1000 }, (_, number) => number) });
  const at = text.indexOf("900");
  await expect(parse(`${text.slice(0, at)}?${text.slice(at)}`, 10)).rejects.toThrow(`at byte ${at}`);
});

test("a value that is large is not begun anew for each piece", async () => {
  const text = `{"rest":"${"x".repeat(8_000_000)}","list":[1]}`;
  const before = process.threadCpuUsage();
  expect((await parse(text, 1000)).list).toEqual([1]);
  const { user, system } = process.threadCpuUsage(before);
  // Begun anew each time, it would take 32 · 10⁹ steps.
  expect((user + system) / 1e6).toBeLessThan(5);
});
