import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import fc from "fast-check";
import { ManualClock } from "../../base/testing/manual-clock.ts";
import type { BlockSource } from "../../disk/block-device.ts";
import { memorySource } from "../../disk/testing/memory-source.ts";
import { noise } from "../../repository/testing/restic.ts";
import { coverage, damaged, ImageWorkshop, placesOf } from "../testing/disk-images.ts";
import { turnsDuring } from "../testing/turns.ts";
import { structureExtents } from "./structure.ts";

const MIB = 1024 * 1024;
let workshop: ImageWorkshop;
let disk: Buffer;
const kernel = noise(2 * MIB, 1);
const loader = noise(400_000, 2);

beforeAll(async () => {
  workshop = await ImageWorkshop.create();
  const path = await workshop.blank("disk", 128 * MIB);
  await workshop.feed("label: gpt\nsize=8MiB,type=uefi\nsize=100MiB\n", "sfdisk", "--quiet", path);
  await workshop.run("mkfs.vfat", await workshop.blank("efi", 8 * MIB));
  await workshop.tree("root", { "boot/vmlinuz-6.1": kernel, "etc/fstab": noise(100, 3), "EFI/BOOT/grub.efi": loader });
  await workshop.run("mcopy", "-i", "efi", "root/EFI/BOOT/grub.efi", "::");
  await workshop.blank("ext", 100 * MIB);
  await workshop.run("mke2fs", "-q", "-F", "-t", "ext4", "-d", "root", "ext");
  await workshop.run("dd", "if=efi", "of=disk", "bs=1M", "seek=1", "conv=notrunc", "status=none");
  await workshop.run("dd", "if=ext", "of=disk", "bs=1M", "seek=9", "conv=notrunc", "status=none");
  disk = await readFile(path);
}, 180_000);
afterAll(() => workshop.remove());

test("finds what boots on a whole disk: table, EFI partition, kernel", async () => {
  const extents = await structureExtents(memorySource(disk), new ManualClock());
  const covers = coverage(extents);
  expect(extents[0]).toEqual({ offset: 0, length: MIB });
  for (const content of [kernel, loader]) {
    const offset = disk.indexOf(content.subarray(0, 4000), content === kernel ? 9 * MIB : 0);
    expect(covers({ offset, length: content.length })).toBe(true);
  }
  expect(covers({ offset: disk.length - 33 * 512, length: 33 * 512 })).toBe(true);
  expect(extents.at(-1)).toEqual({ offset: 0, length: 64 * MIB });
});

test("of a disk that holds nothing known, the beginning", async () => {
  expect(await structureExtents(memorySource(noise(100_000, 5)), new ManualClock())).toEqual(
    Array.from({ length: 3 }, () => ({ offset: 0, length: 100_000 })),
  );
});

test("a hostile disk ends within bounds, and names nothing outside of itself", async () => {
  // What parsers look at lies in the first half of each part's tables; changes anywhere else do nothing.
  const place = fc.oneof(
    fc.nat(34 * 512),
    fc.integer({ min: MIB, max: MIB + 8192 }),
    fc.integer({ min: 9 * MIB + 1024, max: 9 * MIB + 2048 }),
    fc.integer({ min: 9 * MIB + 4096, max: 9 * MIB + 8192 }),
    fc.integer({ min: 9 * MIB, max: 20 * MIB }),
  );
  const value = fc.oneof(fc.constant(0xff), fc.constant(0), fc.nat(255));
  const small = disk.subarray(0, 24 * MIB);
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(place, value), { minLength: 1, maxLength: 40 }), async (changes) => {
      const source = damaged(small, changes);
      const extents = await structureExtents(source, new ManualClock());
      let bytes = 0;
      for (const { offset, length } of extents) {
        bytes += length;
        expect(offset >= 0 && length > 0 && offset + length <= source.size).toBe(true);
      }
      expect(bytes).toBeLessThanOrEqual(512 * MIB);
    }),
    { numRuns: 60 },
  );
});

test("time that runs out keeps what was found until then", async () => {
  const clock = new ManualClock();
  const source = memorySource(disk);
  let reads = 0;
  const slow = {
    ...source,
    read: async (offset: number, length: number, readClass: "staging") => {
      if (++reads === 8) await clock.advance(60_000);
      return source.read(offset, length, readClass);
    },
  };
  const extents = await structureExtents(slow as typeof source, clock);
  expect(reads).toBe(8);
  expect(extents.length).toBeGreaterThan(3);
  expect(extents.at(-1)).toEqual({ offset: 0, length: 64 * MIB });
});

test("a part of the disk that is damaged in the repository does not take the rest away", async () => {
  const source = memorySource(disk);
  const broken = {
    ...source,
    read: (offset: number, length: number, readClass: "staging") =>
      offset > 9 * MIB ? Promise.reject(new Error("damaged")) : source.read(offset, length, readClass),
  };
  const extents = await structureExtents(broken as typeof source, new ManualClock());
  expect(extents.length).toBeGreaterThan(3);
  expect(extents.at(-1)).toEqual({ offset: 0, length: 64 * MIB });
});

test("a volume in hundreds of thousands of pieces lets others have their turn", async () => {
  // A FAT with every second cluster in use.
  const content = Buffer.alloc(8 * MIB);
  content.writeUInt16LE(512, 11);
  content.writeUInt8(1, 13);
  content.writeUInt16LE(32, 14);
  content.writeUInt8(1, 16);
  content.writeUInt32LE(256, 36);
  content.writeUInt32LE(16_000, 32);
  content.writeUInt16LE(0xaa55, 510);
  for (let cluster = 2; cluster < 15_000; cluster += 2) content.writeUInt16LE(1, 32 * 512 + cluster * 2);
  const found = structureExtents(memorySource(content), new ManualClock());
  const turns = await turnsDuring(found);
  expect((await found).length).toBeGreaterThan(7000);
  expect(turns).toBeGreaterThan(20);
});

test("a partition that cannot be read takes nothing from those behind it", async () => {
  const source = memorySource(disk);
  const damagedSource: BlockSource = {
    ...source,
    read: async (offset, length, readClass) => {
      if (offset >= MIB && offset < 9 * MIB) throw new Error("damaged");
      return source.read(offset, length, readClass);
    },
  };
  // Last comes the disk's beginning, whatever was found.
  // Last comes the disk's beginning, whatever was found.
  const found = (await structureExtents(damagedSource, new ManualClock())).slice(0, -1);
  const places = placesOf(disk.subarray(9 * MIB), kernel).map((place) => ({
    ...place,
    offset: place.offset + 9 * MIB,
  }));
  const covers = coverage(found);
  expect(places).toHaveLength(kernel.length / 512);
  expect(places.filter((place) => !covers(place))).toEqual([]);
});
