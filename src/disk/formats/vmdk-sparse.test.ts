import { expect, test } from "@jest/globals";
import type { ImageFile } from "./image-file.ts";
import { SegmentList } from "./segments.ts";
import { Tables } from "./tables.ts";
import type { VirtualImage } from "./virtual-image.ts";
import { VmdkSparseExtent } from "./vmdk-sparse.ts";

const SECTOR = 512;
const TABLE = 4096;

test("neighbouring grains that are not there are one question to the parent, across tables too", async () => {
  // Tables of eight grains of a sector: the first is there, with its third grain; the second is not.
  const content = Buffer.alloc(64 * 1024);
  content.writeUInt32LE(TABLE / SECTOR, 0);
  content.writeUInt32LE(100, TABLE + 2 * 4);
  const file: ImageFile = {
    path: "child.vmdk",
    size: content.length,
    read: async (offset, length) => content.subarray(offset, offset + length),
    extents: (offset, length) => [{ offset, length, zero: false }],
  };
  const header = { capacity: 16 * SECTOR, grain: SECTOR, tableEntries: 8, directoryOffset: 0 };
  const sparse = { ...header, compressed: false, zeroGrains: false, descriptor: "" };
  const extent = new VmdkSparseExtent(file, sparse, { tables: new Tables() });
  const asked: [number, number][] = [];
  const image: VirtualImage = {
    ...{ format: "raw", size: 1024 * SECTOR, unit: SECTOR, files: [file] },
    async map(offset, length) {
      asked.push([offset / SECTOR, length / SECTOR]);
      const list = new SegmentList();
      list.zero(length);
      return list.segments;
    },
  };
  const list = new SegmentList();
  await extent.map(0, 16 * SECTOR, list, { image, start: 32 * SECTOR }, { readClass: "guest", missed: false });
  expect(asked).toEqual([
    [32, 2],
    [35, 13],
  ]);
  expect(list.segments.map(({ kind, length }) => [kind, length / SECTOR])).toEqual([
    ["zero", 2],
    ["data", 1],
    ["zero", 13],
  ]);
});
