import { expect, test } from "@jest/globals";
import { BootWatch } from "./boot-watch.ts";
import { decodeExtents } from "./page-extents.ts";

const DISKS = [{ name: "root", size: 100 * 4096 }];

function extents(profile: ReturnType<BootWatch["enter"]>): unknown {
  return decodeExtents(profile?.disks[0]?.extents ?? "", 100 * 4096);
}

test("learns from a boot that became ready, and only from its reads", () => {
  const watch = new BootWatch(DISKS, undefined);
  watch.imageRead("root", 0, 4096, true);
  watch.enter("Staging", undefined);
  watch.imageRead("root", 4096, 4096, true);
  expect(watch.enter("Booting", undefined)).toBeUndefined();
  watch.imageRead("root", 8192, 4096, true);
  expect(watch.enter("Booting", undefined)).toBeUndefined();
  watch.imageRead("root", 20_480, 4096, false);
  const learned = watch.enter("Ready", undefined);
  expect(learned?.boots).toBe(1);
  expect(extents(learned)).toEqual([
    { offset: 8192, length: 4096 },
    { offset: 20_480, length: 4096 },
  ]);
  watch.imageRead("root", 40_960, 4096, false);
  expect(watch.enter("Relocating", learned)).toBeUndefined();
  expect(watch.enter("Ready", learned)).toBeUndefined();
});

test("a boot that failed teaches nothing, nor one whose beginning was missed", () => {
  const watch = new BootWatch(DISKS, undefined);
  watch.enter("Booting", undefined);
  watch.imageRead("root", 0, 4096, true);
  watch.enter("BootFailed", undefined);
  expect(watch.enter("Ready", undefined)).toBeUndefined();

  const restarted = new BootWatch(DISKS, "Booting");
  restarted.enter("Booting", undefined);
  restarted.imageRead("root", 0, 4096, true);
  expect(restarted.enter("Ready", undefined)).toBeUndefined();
});

test("counts hits while booting only, never more than the reads", () => {
  const watch = new BootWatch(DISKS, undefined);
  watch.guestRead();
  watch.enter("Booting", undefined);
  for (const missed of [true, false, true]) {
    watch.imageRead("root", 0, 4096, missed);
    watch.guestRead();
  }
  watch.guestRead();
  expect([watch.guestReads, watch.guestHits]).toEqual([4, 2]);
  for (let count = 0; count < 9; count++) watch.imageRead("root", 0, 4096, true);
  expect(watch.guestHits).toBe(0);
  watch.enter("Ready", undefined);
  watch.guestRead();
  expect(watch.guestReads).toBe(4);
});
