import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { checksumsOf, isIntact, PIECE } from "./piece-checksums.ts";

const MOST = 40 * PIECE;
const noise = Buffer.from(
  Uint32Array.from({ length: MOST / 4 }, (_, index) => Math.imul(index + 1, 2654435761)).buffer,
);

/** A content, and whole pieces of it cut into three parts at any place; the content's last piece may be short. */
const cuts = fc
  .record({ length: fc.integer({ min: 1, max: MOST }), from: fc.nat(), count: fc.nat(), cut: fc.nat(), cut2: fc.nat() })
  .map(({ length, from, count, cut, cut2 }) => {
    const pieces = Math.ceil(length / PIECE);
    const first = from % pieces;
    const end = Math.min(length, (first + 1 + (count % (pieces - first))) * PIECE);
    const bytes = end - first * PIECE;
    const [a = 0, b = 0] = [cut % (bytes + 1), cut2 % (bytes + 1)].toSorted((x, y) => x - y);
    return { length, first, end, a, b };
  });

test("what is whole is intact, wherever it is cut; what is altered in one byte is not", () => {
  fc.assert(
    fc.property(cuts, fc.nat(), fc.integer({ min: 1, max: 255 }), ({ length, first, end, a, b }, where, change) => {
      const content = noise.subarray(0, length);
      const stored = checksumsOf(content);
      const checksums = new Uint32Array(stored.buffer, stored.byteOffset, stored.length / 4);
      const read = Buffer.from(content.subarray(first * PIECE, end));
      const check = (): boolean =>
        isIntact(read.subarray(0, a), read.subarray(a, b), read.subarray(b), checksums, first);
      expect(check()).toBe(true);
      const at = where % read.length;
      read[at] = (read[at] ?? 0) ^ change;
      expect(check()).toBe(false);
    }),
    { numRuns: 300 },
  );
});

test("pieces that changed places are not intact", () => {
  const content = Buffer.from(noise.subarray(0, 8 * PIECE));
  const stored = checksumsOf(content);
  const checksums = new Uint32Array(stored.buffer, stored.byteOffset, stored.length / 4);
  const swapped = Buffer.concat([
    content.subarray(PIECE, 2 * PIECE),
    content.subarray(0, PIECE),
    content.subarray(2 * PIECE),
  ]);
  expect(isIntact(Buffer.alloc(0), swapped, Buffer.alloc(0), checksums, 0)).toBe(false);
});
