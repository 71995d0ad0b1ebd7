import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { bootProfile } from "../api/boot-profile.ts";
import { BootRecorder, FirstReads } from "./boot-recorder.ts";
import { lettered, rawDisk } from "./testing/blob-file.ts";

test("keeps the order of first reads and joins neighbours", () => {
  const reads = new FirstReads(100 * 4096);
  reads.add(40_960, 4096);
  reads.add(0, 512);
  reads.add(4096, 8192);
  reads.add(0, 5 * 4096);
  reads.add(99 * 4096, 4096);
  expect(reads.extents).toEqual([
    { offset: 40_960, length: 4096 },
    { offset: 0, length: 5 * 4096 },
    { offset: 99 * 4096, length: 4096 },
  ]);
});

test("records each page that was read once, whatever is read", () => {
  const read = fc.tuple(fc.nat(300_000), fc.integer({ min: 1, max: 40_000 }));
  fc.assert(
    fc.property(fc.array(read, { maxLength: 60 }), (list) => {
      const size = 300_001;
      const reads = new FirstReads(size);
      const model = new Set<number>();
      for (const [offset, length] of list) {
        const clipped = Math.min(length, size - offset);
        reads.add(offset, clipped);
        for (let page = Math.floor(offset / 4096); page * 4096 < offset + clipped; page++) model.add(page);
      }
      const recorded = reads.extents.flatMap(({ offset, length }) =>
        Array.from({ length: length / 4096 }, (_, index) => offset / 4096 + index),
      );
      expect(recorded).toEqual([...model]);
    }),
  );
});

test("disks are known by their names, and what earlier boots read is kept", async () => {
  const disks = [
    rawDisk("root", lettered("abcdefghij", 100_000)),
    rawDisk("data", lettered("klmno", 100_000)),
  ] as const;
  const first = new BootRecorder(disks);
  first.read("root", 0, 4096);
  first.read("root", 8192, 4096);
  first.read("data", 4096, 1);
  const earlier = bootProfile.parse(await first.profile(undefined));
  expect(earlier.boots).toBe(1);
  expect(earlier.disks.map(({ name, size, extents }) => [name, size, extents])).toEqual([
    ["root", 1_000_000, "0+1,2+1"],
    ["data", 500_000, "1+1"],
  ]);
  const second = new BootRecorder([disks[0], rawDisk("other", lettered("xyz", 4096))]);
  second.read("root", 40_960, 4096);
  second.read("root", 0, 100);
  second.read("none", 0, 100);
  const merged = bootProfile.parse(await second.profile(earlier));
  expect(merged.boots).toBe(2);
  expect(merged.disks.map(({ name, extents }) => [name, extents])).toEqual([
    ["root", "0+1*h,a+1*a,2+1*7"],
    ["other", ""],
  ]);
});

test("is bounded, however scattered the reads are and however many disks there are", async () => {
  const file = lettered("abcdefghijklmnop".repeat(128), 1024 * 1024);
  const disks = Array.from({ length: 3 }, (_, index) => rawDisk(`disk${index}`, file));
  const recorder = new BootRecorder(disks);
  for (let offset = 0; offset < file.size; offset += 8192) recorder.read("disk0", offset, 4096);
  for (let offset = 0; offset < file.size; offset += 65_536) recorder.read("disk1", offset, 4096);
  const profile = bootProfile.parse(await recorder.profile(undefined));
  expect(profile.disks[0]?.extents.length).toBeGreaterThan(200_000);
  // The one with few is there in full.
  expect(profile.disks[1]?.extents.split(",")).toHaveLength(file.size / 65_536);
  expect(Buffer.byteLength(JSON.stringify(profile))).toBeLessThan(1_000_000);
});
