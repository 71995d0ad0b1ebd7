import { expect, test } from "@jest/globals";
import { BootWatch } from "./boot-watch.ts";
import { decodeDisk } from "./profile/text.ts";
import { lettered, rawDisk } from "./testing/blob-file.ts";

const DISKS = [rawDisk("root", lettered("abcdefghij", 10 * 4096))];

function extents(profile: Awaited<ReturnType<BootWatch["enter"]>>): unknown {
  const { runs } = decodeDisk(profile?.disks[0] ?? { extents: "" }, 100 * 4096);
  return runs.map(({ offset, length }) => ({ offset, length }));
}

test("learns from a boot that became ready, and only from its reads", async () => {
  const watch = new BootWatch(undefined);
  watch.imageRead("root", 0, 4096, true);
  await watch.enter("Staging", DISKS, undefined);
  watch.imageRead("root", 4096, 4096, true);
  expect(await watch.enter("Booting", DISKS, undefined)).toBeUndefined();
  watch.imageRead("root", 8192, 4096, true);
  expect(await watch.enter("Booting", DISKS, undefined)).toBeUndefined();
  watch.imageRead("root", 20_480, 4096, false);
  const learned = await watch.enter("Ready", DISKS, undefined);
  expect(learned?.boots).toBe(1);
  expect(extents(learned)).toEqual([
    { offset: 8192, length: 4096 },
    { offset: 20_480, length: 4096 },
  ]);
  watch.imageRead("root", 40_960, 4096, false);
  expect(await watch.enter("Relocating", DISKS, learned)).toBeUndefined();
  expect(await watch.enter("Ready", DISKS, learned)).toBeUndefined();
});

test("a boot that failed teaches nothing, nor one whose beginning was missed", async () => {
  const watch = new BootWatch(undefined);
  await watch.enter("Booting", DISKS, undefined);
  watch.imageRead("root", 0, 4096, true);
  await watch.enter("BootFailed", DISKS, undefined);
  expect(await watch.enter("Ready", DISKS, undefined)).toBeUndefined();

  const restarted = new BootWatch("Booting");
  await restarted.enter("Booting", DISKS, undefined);
  restarted.imageRead("root", 0, 4096, true);
  expect(await restarted.enter("Ready", DISKS, undefined)).toBeUndefined();
});

test("counts hits while booting only, a read of many pieces once", async () => {
  const watch = new BootWatch(undefined);
  const read = (offset: number, pieces: readonly boolean[]): void => {
    const end = watch.guestRead("root", offset, pieces.length * 4096);
    for (const [index, missed] of pieces.entries()) watch.imageRead("root", offset + index * 4096, 4096, missed);
    end?.();
  };
  read(0, [true]);
  await watch.enter("Booting", DISKS, undefined);
  read(0, [true]);
  read(8192, [false, false]);
  read(16_384, [true, false, true, true]);
  read(40_960, []);
  expect([watch.guestReads, watch.guestHits]).toEqual([4, 2]);
  const late = watch.guestRead("root", 0, 4096);
  await watch.enter("Ready", DISKS, undefined);
  late?.();
  read(0, [false]);
  expect([watch.guestReads, watch.guestHits]).toEqual([4, 2]);
});

test("a miss is of the read whose bytes were missing, not of its neighbours", async () => {
  const watch = new BootWatch(undefined);
  await watch.enter("Booting", DISKS, undefined);
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
