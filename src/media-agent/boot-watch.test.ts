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

test("counts hits while booting only, a read of many pieces once", () => {
  const watch = new BootWatch(DISKS, undefined);
  const read = (offset: number, pieces: readonly boolean[]): void => {
    const end = watch.guestRead("root", offset, pieces.length * 4096);
    for (const [index, missed] of pieces.entries()) watch.imageRead("root", offset + index * 4096, 4096, missed);
    end?.();
  };
  read(0, [true]);
  watch.enter("Booting", undefined);
  read(0, [true]);
  read(8192, [false, false]);
  read(16_384, [true, false, true, true]);
  read(40_960, []);
  expect([watch.guestReads, watch.guestHits]).toEqual([4, 2]);
  const late = watch.guestRead("root", 0, 4096);
  watch.enter("Ready", undefined);
  late?.();
  read(0, [false]);
  expect([watch.guestReads, watch.guestHits]).toEqual([4, 2]);
});

test("a miss is of the read whose bytes were missing, not of its neighbours", () => {
  const watch = new BootWatch([...DISKS, { name: "data", size: 8192 }], undefined);
  watch.enter("Booting", undefined);
  const ends = [
    watch.guestRead("root", 0, 8192),
    watch.guestRead("root", 8192, 8192),
    watch.guestRead("data", 0, 8192),
    watch.guestRead("root", 4096, 4096),
  ];
  watch.imageRead("root", 4096, 4096, true);
  for (const end of ends) end?.();
  expect([watch.guestReads, watch.guestHits]).toEqual([4, 2]);
});
