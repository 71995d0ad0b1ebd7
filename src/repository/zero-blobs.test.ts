import { createHash } from "node:crypto";
import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { IdTable } from "./id-table.ts";
import { findZeroBlobs } from "./zero-blobs.ts";

const MIB = 1024 * 1024;
const sha256 = (bytes: Uint8Array): Buffer => createHash("sha256").update(bytes).digest();
const zeroIds = new Map<number, Buffer>();
function zeroIdOf(length: number): Buffer {
  const known = zeroIds.get(length) ?? sha256(Buffer.alloc(length));
  zeroIds.set(length, known);
  return known;
}

/** Lengths of blobs, with whether each is all zeros → what is found. */
async function find(blobs: readonly { length: number; zero: boolean }[]): Promise<number[]> {
  const ids = blobs.map(({ length, zero }, index) => (zero ? zeroIdOf(length) : sha256(Buffer.from([index, 1]))));
  const offsets = new Float64Array(blobs.length + 1);
  for (const [index, { length }] of blobs.entries()) offsets[index + 1] = (offsets[index] ?? 0) + length;
  const table = IdTable.withRoom(ids.length);
  const numbers = Uint32Array.from(ids, (id) => table.add(id));
  const found = await findZeroBlobs(table, numbers, offsets, async (length) => zeroIdOf(length).toString("hex"));
  return [...found];
}

test("restic's chunker: zeros come in pieces of 8 MiB, and as a rest", async () => {
  const blobs = [
    { length: 1_234_567, zero: false },
    { length: 8 * MIB, zero: true },
    { length: 8 * MIB, zero: false },
    { length: 8 * MIB, zero: true },
    { length: 555_555, zero: false },
    { length: 77_777, zero: true },
  ];
  expect(await find(blobs)).toEqual([0, 1, 0, 1, 0, 1]);
});

test("chunks of one fixed length", async () => {
  const zero = [false, true, false, true, true, false, true];
  expect(await find(zero.map((isZero) => ({ length: MIB, zero: isZero })))).toEqual(zero.map(Number));
});

test("an empty file, and one of nothing but zeros", async () => {
  expect(await find([])).toEqual([]);
  expect(await find([{ length: 5, zero: true }])).toEqual([1]);
});

test("never calls data zeros", async () => {
  const blob = fc.record({ length: fc.constantFrom(1, 512, 4096, 65_536), zero: fc.boolean() });
  await fc.assert(
    fc.asyncProperty(fc.array(blob, { maxLength: 40 }), async (blobs) => {
      for (const [index, found] of (await find(blobs)).entries()) {
        if (found === 1) expect(blobs[index]?.zero).toBe(true);
      }
    }),
    { numRuns: 50 },
  );
});
