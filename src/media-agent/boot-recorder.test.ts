import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { bootProfile } from "../api/boot-profile.ts";
import { BootRecorder, FirstReads } from "./boot-recorder.ts";
import { decodeExtents } from "./page-extents.ts";

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

test("a later boot comes first; what only an earlier one read follows; another size counts nothing", () => {
  const disks = [
    { name: "root", size: 1_000_000 },
    { name: "data", size: 500_000 },
  ];
  const first = new BootRecorder(disks);
  first.read("root", 0, 4096);
  first.read("root", 8192, 4096);
  first.read("data", 4096, 1);
  const earlier = first.profile(undefined);
  expect(earlier.boots).toBe(1);
  const second = new BootRecorder([disks[0] as (typeof disks)[0], { name: "data", size: 600_000 }]);
  second.read("root", 40_960, 4096);
  second.read("root", 0, 100);
  second.read("none", 0, 100);
  const merged = bootProfile.parse(second.profile(earlier));
  expect(merged.boots).toBe(2);
  expect(decodeExtents(merged.disks[0]?.extents ?? "", 1_000_000)).toEqual([
    { offset: 40_960, length: 4096 },
    { offset: 0, length: 4096 },
    { offset: 8192, length: 4096 },
  ]);
  expect(merged.disks[1]).toEqual({ name: "data", size: 600_000, extents: "" });
});

test("is bounded, however scattered the reads are", () => {
  const size = 2 ** 31;
  const recorder = new BootRecorder([{ name: "root", size }]);
  for (let offset = 0; offset < size; offset += 8192) recorder.read("root", offset, 4096);
  const profile = bootProfile.parse(recorder.profile(undefined));
  expect(profile.disks[0]?.extents.length).toBeGreaterThan(200_000);
});
