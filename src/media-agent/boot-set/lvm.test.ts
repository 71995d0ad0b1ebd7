import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import fc from "fast-check";
import { ManualClock } from "../../base/testing/manual-clock.ts";
import type { Extent } from "../../disk/block-device.ts";
import { memorySource } from "../../disk/testing/memory-source.ts";
import { noise } from "../../repository/testing/restic.ts";
import { coverage, damaged, ImageWorkshop } from "../testing/disk-images.ts";
import { lvm2PhysicalVolume } from "../testing/lvm2-volume.ts";
import { BoundedDisk } from "./bounded-disk.ts";
import { readLvm } from "./lvm.ts";
import { structureExtents } from "./structure.ts";

const MIB = 1024 * 1024;
const EXTENT = 4 * MIB;
/** Where the logical volume `root` lies, in extents from 1 MiB on. */
const ROOT = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 20, 21, 22, 23, 16, 17, 29];
const HOME = [24, 25, 26, 27, 28];
const kernel = noise(9 * MIB, 1);

let workshop: ImageWorkshop;
let physical: Buffer;
let root: Buffer;

beforeAll(async () => {
  workshop = await ImageWorkshop.create();
  await workshop.tree("files", { "boot/vmlinuz-6.1": kernel, "etc/fstab": noise(100, 2) });
  const image = await workshop.blank("root", ROOT.length * EXTENT);
  // Away from the beginning, so that the kernel lies in several segments.
  await workshop.run("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-d", "files", image);
  root = await readFile(image);
  physical = Buffer.alloc(128 * MIB);
  lvm2PhysicalVolume().copy(physical);
  for (const [index, extent] of ROOT.entries()) {
    root.copy(physical, MIB + extent * EXTENT, index * EXTENT, (index + 1) * EXTENT);
  }
}, 180_000);
afterAll(() => workshop.remove());

const open = (content: Buffer) => new BoundedDisk(memorySource(content), new ManualClock());

test("finds the logical volumes that lvm2 made, piece by piece", async () => {
  const found = await readLvm(open(physical));
  expect(found?.volumes.map(({ size }) => size)).toEqual([ROOT.length * EXTENT, 4 * EXTENT, HOME.length * EXTENT]);
  const [first, striped, home] = found?.volumes ?? [];
  for (const [offset, length] of [
    [0, 4096],
    [16 * EXTENT - 5000, 10_000],
    [20 * EXTENT - 512, 1024],
    [23 * EXTENT - MIB, MIB],
  ] as const) {
    expect((await first?.read(offset, length))?.equals(root.subarray(offset, offset + length))).toBe(true);
  }
  expect(await first?.read(23 * EXTENT - 1, 2)).toBeUndefined();
  expect([...(first?.places({ offset: 16 * EXTENT - 4096, length: 8192 }) ?? [])]).toEqual([
    { offset: MIB + 16 * EXTENT - 4096, length: 4096 },
    { offset: MIB + 20 * EXTENT, length: 4096 },
  ]);
  expect([...(home?.places({ offset: 0, length: EXTENT }) ?? [])]).toEqual([
    { offset: MIB + 24 * EXTENT, length: EXTENT },
  ]);
  // Every second stripe lies on the other physical volume.
  const stripe = 65_536;
  expect(await striped?.read(0, stripe)).toHaveLength(stripe);
  expect(await striped?.read(stripe, 1)).toBeUndefined();
  expect(await striped?.read(stripe - 1, 2)).toBeUndefined();
  expect([...(striped?.places({ offset: 100, length: 4 * stripe }) ?? [])]).toEqual([
    { offset: MIB + 18 * EXTENT + 100, length: stripe - 100 },
    { offset: MIB + 18 * EXTENT + stripe, length: stripe },
    { offset: MIB + 18 * EXTENT + 2 * stripe, length: 100 },
  ]);
});

test("a kernel in a logical volume in a partition is part of the boot set, and so is the metadata", async () => {
  const path = await workshop.blank("disk", 130 * MIB);
  await workshop.feed("label: gpt\nsize=128MiB,type=lvm\n", "sfdisk", "--quiet", path);
  const disk = await readFile(path);
  physical.copy(disk, MIB);
  const extents = await structureExtents(memorySource(disk), new ManualClock());
  const covers = coverage(extents.filter(({ length }) => length < 64 * MIB));
  const kernelBlocks = (await workshop.run("debugfs", "-R", "blocks /boot/vmlinuz-6.1", "root")).trim().split(/\s+/);
  const onDisk = (block: number): Extent => {
    const at = block * 4096;
    const extent = ROOT[Math.floor(at / EXTENT)] ?? 0;
    return { offset: 2 * MIB + extent * EXTENT + (at % EXTENT), length: 4096 };
  };
  expect(kernelBlocks.length).toBeGreaterThan(2000);
  expect(
    kernelBlocks
      .map(Number)
      .map(onDisk)
      .filter((place) => !covers(place)),
  ).toEqual([]);
  expect(covers({ offset: MIB, length: 2048 })).toBe(true);
  expect(covers({ offset: MIB + 4096, length: 512 })).toBe(true);
});

test("text that goes round the end of its area is read", async () => {
  const content = Buffer.from(physical.subarray(0, 2 * MIB));
  const offset = Number(content.readBigUInt64LE(4096 + 40));
  const length = Number(content.readBigUInt64LE(4096 + 48));
  const text = Buffer.from(content.subarray(4096 + offset, 4096 + offset + length));
  const end = Number(content.readBigUInt64LE(4096 + 32));
  content.writeBigUInt64LE(BigInt(end - 1000), 4096 + 40);
  text.copy(content, 4096 + end - 1000, 0, 1000);
  text.copy(content, 4096 + 512, 1000);
  expect((await readLvm(open(content)))?.volumes).toHaveLength(3);
});

test("anything else is no physical volume", async () => {
  expect(await readLvm(open(Buffer.alloc(MIB)))).toBeUndefined();
  expect(await readLvm(open(Buffer.alloc(100)))).toBeUndefined();
  const foreign = Buffer.from(physical.subarray(0, 2 * MIB));
  // The label of another physical volume: the text says nothing of it.
  foreign.write("another-physical-volume-altogeth", 512 + 32, "latin1");
  expect(await readLvm(open(foreign))).toMatchObject({ volumes: [] });
});

test("a hostile physical volume ends within bounds, and names nothing outside of itself", async () => {
  const size = 8 * MIB;
  const small = physical.subarray(0, size);
  const place = fc.oneof(
    fc.integer({ min: 512, max: 512 + 160 }),
    fc.integer({ min: 4096, max: 4096 + 72 }),
    fc.integer({ min: 4096 + 13_312, max: 4096 + 13_312 + 2125 }),
  );
  const value = fc.oneof(fc.nat(255), fc.integer({ min: 0x30, max: 0x39 }), fc.constantFrom(0x7b, 0x7d, 0x22, 0x5b));
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(place, value), { minLength: 1, maxLength: 12 }), async (changes) => {
      const disk = new BoundedDisk(damaged(small, changes), new ManualClock());
      const found = await readLvm(disk);
      for (const volume of found?.volumes ?? []) {
        const read = await volume.read(0, 4096);
        expect(read === undefined || read.length === 4096).toBe(true);
        let pieces = 0;
        for (const _ of volume.places({ offset: 0, length: 64 * MIB })) pieces++;
        expect(pieces).toBeLessThanOrEqual(65_536);
      }
      for (const { offset, length } of await structureExtents(damaged(small, changes), new ManualClock())) {
        expect(offset >= 0 && length > 0 && offset + length <= size).toBe(true);
      }
    }),
    { numRuns: 200 },
  );
});
