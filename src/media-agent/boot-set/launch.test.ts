import { expect, test } from "@jest/globals";
import { isLaunchable } from "./launch.ts";

const MIB = 2 ** 20;
const staging = { complete: false, total: 100 * MIB, staged: 0, fetched: 0, elapsedMs: 1000 };

test("a boot set that is staged, or was given up, holds nobody", () => {
  expect(isLaunchable({ ...staging, complete: true })).toBe(true);
  expect(isLaunchable({ complete: true, total: 0, staged: 0, fetched: 0, elapsedMs: 0 })).toBe(true);
});

test("nothing is launched before the boot set was chosen and a rate is known", () => {
  expect(isLaunchable({ ...staging, total: 0 })).toBe(false);
  expect(isLaunchable(staging)).toBe(false);
  expect(isLaunchable({ ...staging, staged: 99 * MIB, fetched: 99 * MIB, elapsedMs: 50 })).toBe(false);
});

test("a machine starts as soon as staging, at its measured rate, will be through before the machine reads much", () => {
  const at = (mib: number, elapsedMs: number): boolean =>
    isLaunchable({ ...staging, staged: mib * MIB, fetched: mib * MIB, elapsedMs });
  // 25 MiB/s: the other 75 MiB take 3 s.
  expect(at(25, 1000)).toBe(true);
  expect(at(24, 1000)).toBe(false);
  // A tenth of that rate: not before 7.5 MiB are left.
  expect(at(25, 10_000)).toBe(false);
  expect(at(93, 37_200)).toBe(true);
});

test("what the search fetched tells the rate, before any of it was looked at again", () => {
  expect(isLaunchable({ ...staging, fetched: 40 * MIB })).toBe(true);
  expect(isLaunchable({ ...staging, fetched: 30 * MIB })).toBe(false);
});

test("what an earlier agent left in the cache tells nothing of the rate", () => {
  const left = { ...staging, staged: 90 * MIB };
  expect(isLaunchable(left)).toBe(false);
  expect(isLaunchable({ ...left, fetched: 2 * MIB })).toBe(false);
  expect(isLaunchable({ ...left, fetched: 4 * MIB })).toBe(true);
});
