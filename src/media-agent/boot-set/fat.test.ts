import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import fc from "fast-check";
import { ManualClock } from "../../base/testing/manual-clock.ts";
import type { Extent } from "../../disk/block-device.ts";
import { memorySource } from "../../disk/testing/memory-source.ts";
import { noise } from "../../repository/testing/restic.ts";
import { collect, coverage, damaged, ImageWorkshop } from "../testing/disk-images.ts";
import { BoundedDisk } from "./bounded-disk.ts";
import { fatBootSet } from "./fat.ts";

const MIB = 1024 * 1024;
let workshop: ImageWorkshop;

beforeAll(async () => {
  workshop = await ImageWorkshop.create();
});
afterAll(() => workshop.remove());

async function bootSet(content: Buffer): Promise<Extent[]> {
  return collect(fatBootSet(new BoundedDisk(memorySource(content), new ManualClock())));
}

test.each([
  ["12", 4],
  ["16", 32],
  ["32", 70],
])("FAT%s: its tables and its files, not what is free", async (bits, size) => {
  const image = await workshop.blank(`fat${bits}`, size * MIB);
  await workshop.run("mkfs.vfat", "-F", bits, ...(bits === "32" ? ["-s", "1"] : []), image);
  const first = noise(300_000, 1);
  const second = noise(700_001, 2);
  await workshop.tree("files", { "grubx64.efi": first, "shimx64.efi": second });
  await workshop.run("mcopy", "-i", image, "files/grubx64.efi", "files/shimx64.efi", "::");
  const content = await readFile(image);
  const extents = await bootSet(content);
  const covers = coverage(extents);
  for (const file of [first, second]) {
    const offset = content.indexOf(file.subarray(0, 2000));
    expect(offset).toBeGreaterThan(0);
    expect(covers({ offset, length: file.length })).toBe(true);
  }
  expect(covers({ offset: 0, length: 4096 })).toBe(true);
  expect(extents.reduce((sum, { length }) => sum + length, 0)).toBeLessThan(content.indexOf(second) + 2 * MIB);
  expect(covers({ offset: content.length - 4096, length: 4096 })).toBe(false);
});

test("anything else has none", async () => {
  expect(await bootSet(Buffer.alloc(MIB))).toEqual([]);
  expect(await bootSet(Buffer.alloc(MIB, 0xff))).toEqual([]);
  expect(await bootSet(Buffer.alloc(10))).toEqual([]);
});

test("a hostile volume ends within bounds", async () => {
  const images = await Promise.all(
    ["12", "16", "32"].map(async (bits) => {
      const path = await workshop.blank(`hostile${bits}`, bits === "12" ? 4 * MIB : 40 * MIB);
      await workshop.run("mkfs.vfat", "-F", bits, ...(bits === "32" ? ["-s", "1"] : []), path);
      return readFile(path);
    }),
  );
  const change = fc.tuple(fc.oneof(fc.nat(95), fc.integer({ min: 512, max: 40_000 })), fc.nat(255));
  await fc.assert(
    fc.asyncProperty(fc.nat(2), fc.array(change, { minLength: 1, maxLength: 20 }), async (which, changes) => {
      const source = damaged(images[which] ?? Buffer.alloc(0), changes);
      const found: Extent[] = [];
      const gather = async (): Promise<void> => {
        for await (const extent of fatBootSet(new BoundedDisk(source, new ManualClock()))) found.push(extent);
      };
      await gather().catch((error: Error) => expect(error.constructor.name).toBe("BudgetSpentError"));
      const bytes = found.slice(1).reduce((sum, { length }) => sum + length, 0);
      expect(bytes).toBeLessThanOrEqual(160 * MIB);
      for (const { offset, length } of found) expect(offset >= 0 && length >= 0).toBe(true);
    }),
    { numRuns: 200 },
  );
});
