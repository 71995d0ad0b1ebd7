import { expect, test } from "@jest/globals";
import { isLaunchable } from "./launch.ts";

const MIB = 2 ** 20;
const staging = { complete: false, total: 100 * MIB, staged: 0, elapsedMs: 1000 };

test("a boot set that is staged, or was given up, holds nobody", () => {
  expect(isLaunchable({ ...staging, complete: true })).toBe(true);
  expect(isLaunchable({ complete: true, total: 0, staged: 0, elapsedMs: 0 })).toBe(true);
});

test("nothing is launched before the boot set was chosen and a rate is known", () => {
  expect(isLaunchable({ ...staging, total: 0 })).toBe(false);
  expect(isLaunchable(staging)).toBe(false);
  expect(isLaunchable({ ...staging, staged: 99 * MIB, elapsedMs: 50 })).toBe(false);
});

test("a machine starts as soon as staging, at its measured rate, will be through before the machine reads much", () => {
  // 25 MiB/s: the other 75 MiB take 3 s.
  expect(isLaunchable({ ...staging, staged: 25 * MIB })).toBe(true);
  expect(isLaunchable({ ...staging, staged: 24 * MIB })).toBe(false);
  // A tenth of that rate: not before 7.5 MiB are left.
  expect(isLaunchable({ ...staging, staged: 25 * MIB, elapsedMs: 10_000 })).toBe(false);
  expect(isLaunchable({ ...staging, staged: 93 * MIB, elapsedMs: 37_200 })).toBe(true);
});
