import { crc32 } from "node:zlib";
import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { SimulatedDirectory } from "../testing/simulated-directory.ts";
import { CheckpointView, loadCheckpoint, saveCheckpoint } from "./checkpoint.ts";
import { OP, PAGE, PageMap } from "./page-map.ts";

const TIB = 2 ** 40;

/** The file as it has been laid out since the first version, written here by other means: bit by bit. */
function layOut(map: PageMap, size: number, epoch: number, journal: number): Buffer {
  const bitmapBytes = Math.ceil(map.pages / 8);
  const bytes = Buffer.alloc(64 + 4 * bitmapBytes + 8 * map.partial.size + 4);
  bytes.write("VMRMAP01", 0, "latin1");
  bytes.writeBigUInt64LE(BigInt(size), 8);
  const numbers = [epoch, journal, map.frozenId, map.lastId, (map.sealed ? 1 : 0) + (map.frozenFinal ? 2 : 0)];
  for (const [index, number] of [...numbers, map.partial.size].entries()) bytes.writeUInt32LE(number, 16 + 4 * index);
  for (const [index, bitmap] of [map.full, map.zero, map.dirty, map.frozen].entries()) {
    for (let page = 0; page < map.pages; page++) {
      const at = 64 + index * bitmapBytes + Math.floor(page / 8);
      if (bitmap.has(page)) bytes[at] = (bytes[at] ?? 0) + 2 ** (page % 8);
    }
  }
  let at = 64 + 4 * bitmapBytes;
  for (const [page, mask] of map.partial) {
    bytes.writeUInt32LE(page, at);
    bytes.writeUInt32LE(mask, at + 4);
    at += 8;
  }
  bytes.writeUInt32LE(crc32(bytes.subarray(0, at)), at);
  return bytes;
}

const PAGES = 1500;
const page = fc.nat(PAGES - 1);
const record = fc.oneof(
  fc
    .tuple(fc.constantFrom(OP.full, OP.zero), page, fc.nat(700))
    .map(([op, a, count]) => ({ op, a, b: Math.min(count + 1, PAGES - a) })),
  fc.tuple(page, fc.integer({ min: 1, max: 254 })).map(([a, b]) => ({ op: OP.partial, a, b })),
  fc.constantFrom({ op: OP.freeze, a: 3, b: 0 }, { op: OP.drop, a: 3, b: 0 }, { op: OP.seal, a: 0, b: 0 }),
);
const records = fc.array(record, { maxLength: 20 });

test("its bytes are those of the state at its time, whatever changes while they are written; and are read again", async () => {
  await fc.assert(
    fc.asyncProperty(records, records, async (before, meanwhile) => {
      const size = PAGES * PAGE - 100;
      const map = new PageMap(PAGES);
      for (const one of before) map.apply(one);
      const expected = layOut(map, size, 4, 9);
      const directory = new SimulatedDirectory();
      const view = new CheckpointView({ map, size, epoch: 4, journal: 9 });
      const saving = saveCheckpoint(directory, "root", view);
      for (const one of meanwhile) map.apply(one);
      await saving;
      view.release();
      const file = directory.file("root.map");
      const written = Buffer.alloc(file.size);
      file.read(written, 0);
      expect(written.equals(expected)).toBe(true);

      const found = await loadCheckpoint(directory, "root");
      expect(found).toMatchObject({ size, epoch: 4, journal: 9 });
      if (found !== undefined) expect(layOut(found.map, size, 4, 9).equals(expected)).toBe(true);
    }),
    { numRuns: 60 },
  );
});

test("what a crash left of an earlier one does not show through the zeros that are left out", async () => {
  const directory = new SimulatedDirectory();
  const left = await directory.open("root.map.new");
  await left.write(Buffer.alloc(70_000, 0x55), 0);
  await left.close();
  const map = new PageMap(PAGES);
  const view = new CheckpointView({ map, size: PAGES * PAGE, epoch: 1, journal: 1 });
  await saveCheckpoint(directory, "root", view);
  expect((await loadCheckpoint(directory, "root"))?.map.dirty.count).toBe(0);
});

test("the states of a disk of 4 TiB take memory where it was written, and while a checkpoint is written little more", () => {
  const size = 4 * TIB;
  const map = new PageMap(size / PAGE);
  const held = (): number => [map.full, map.zero, map.dirty, map.frozen].reduce((sum, one) => sum + one.heldBytes, 0);
  const before = held();
  expect(before).toBeLessThanOrEqual(32 * 2 ** 20);
  for (let index = 0; index < 1000; index++) map.apply({ op: OP.full, a: index * 1_000_003, b: 1 });
  // All of the second TiB.
  map.apply({ op: OP.full, a: TIB / PAGE, b: TIB / PAGE });
  expect(held() - before).toBeLessThanOrEqual(3 * 64 * 1024);

  const buffers = process.memoryUsage().arrayBuffers;
  const view = new CheckpointView({ map, size, epoch: 1, journal: 1 });
  let bytes = 0;
  let most = 0;
  for (const piece of view.pieces()) {
    bytes += piece.length;
    if (bytes % (64 * 2 ** 20) < piece.length) most = Math.max(most, process.memoryUsage().arrayBuffers - buffers);
  }
  view.release();
  expect(bytes).toBe(64 + (4 * size) / PAGE / 8);
  expect(most).toBeLessThanOrEqual(4 * 2 ** 20);
});
