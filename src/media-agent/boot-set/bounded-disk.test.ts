import { expect, test } from "@jest/globals";
import { ManualClock } from "../../base/testing/manual-clock.ts";
import { memorySource } from "../../disk/testing/memory-source.ts";
import { noise } from "../../repository/testing/restic.ts";
import { BoundedDisk } from "./bounded-disk.ts";

const content = noise(3 * 4096 + 1000, 7);

function counted(): { disk: BoundedDisk; reads: [number, number][] } {
  const source = memorySource(content);
  const reads: [number, number][] = [];
  const counting = {
    ...source,
    size: source.size,
    read: (offset: number, length: number, readClass: "staging") => {
      reads.push([offset, length]);
      return source.read(offset, length, readClass);
    },
  };
  return { disk: new BoundedDisk(counting as typeof source, new ManualClock()), reads };
}

test("what lies in one block is read once, whoever asks, also while it is being read", async () => {
  const { disk, reads } = counted();
  const wanted = [
    [4096, 128],
    [4224, 128],
    [8191, 1],
    [4096, 4096],
  ] as const;
  const found = await Promise.all(wanted.map(([offset, length]) => disk.read(offset, length)));
  for (const [index, [offset, length]] of wanted.entries())
    expect(found[index]?.equals(content.subarray(offset, offset + length))).toBe(true);
  expect(reads).toEqual([[4096, 4096]]);
});

test("what spans blocks is read as it is asked for, and the last block as far as there is one", async () => {
  const { disk, reads } = counted();
  expect((await disk.read(4000, 200))?.equals(content.subarray(4000, 4200))).toBe(true);
  expect((await disk.read(content.length - 10, 10))?.equals(content.subarray(-10))).toBe(true);
  expect(await disk.read(content.length - 10, 11)).toBeUndefined();
  expect(reads).toEqual([
    [4000, 200],
    [3 * 4096, 1000],
  ]);
});
