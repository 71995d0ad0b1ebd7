import { expect, test } from "@jest/globals";
import { BudgetSpentError, type Volume } from "./bounded-disk.ts";
import { segmentedVolume } from "./segmented-volume.ts";

const MIB = 1024 * 1024;
const below: Volume = {
  size: 1024 * MIB,
  read: async (offset, length) => Buffer.alloc(length, (offset / 512) & 0xff),
  places: (extent) => [extent],
};

test("runs of several stripes are found in their turns; what lies elsewhere is not", async () => {
  const segment = { offset: 0, length: 8192, stripes: [MIB, undefined], stripeBytes: 1024 };
  const volume = segmentedVolume(below, [segment]);
  expect([...volume.places({ offset: 512, length: 2048 })]).toEqual([
    { offset: MIB + 512, length: 512 },
    { offset: MIB + 1024, length: 512 },
  ]);
  expect((await volume.read(2048, 512))?.[0]).toBe(((MIB + 1024) / 512) & 0xff);
  expect(await volume.read(1024, 512)).toBeUndefined();
});

test("stripes of a sector, all of them elsewhere, do not keep whoever looks again and again", () => {
  const elsewhere = Array.from({ length: 63 }, () => undefined);
  const segment = { offset: 0, length: 64 * MIB, stripes: [0, ...elsewhere], stripeBytes: 512 };
  const volume = segmentedVolume(below, [segment]);
  const look = (): void => {
    for (let looks = 0; looks < 100; looks++)
      expect([...volume.places({ offset: 512, length: 1 * MIB })].length).toBeLessThan(100);
    for (let looks = 0; looks < 1000; looks++) for (const _ of volume.places({ offset: 0, length: 64 * MIB }));
  };
  expect(look).toThrow(BudgetSpentError);
});
