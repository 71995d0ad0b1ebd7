import { expect, test } from "@jest/globals";
import { Pacing } from "./pacing.ts";

const MIB = 1024 * 1024;
const open = (dirtyBytes: number): { sealed: boolean; dirtyBytes: number } => ({ sealed: false, dirtyBytes });

test("has converged when a pass was short or small, and loses that only with a much longer one", () => {
  const pacing = new Pacing();
  expect(pacing.isConverged).toBe(false);
  pacing.passed(1000 * MIB, 60_000);
  expect(pacing.isConverged).toBe(false);
  pacing.passed(100 * MIB, 2_900);
  expect(pacing.isConverged).toBe(true);
  pacing.passed(200 * MIB, 5_000);
  expect(pacing.isConverged).toBe(true);
  pacing.passed(400 * MIB, 7_000);
  expect(pacing.isConverged).toBe(false);
  pacing.passed(10 * MIB, 20_000);
  expect(pacing.isConverged).toBe(true);
});

test("goes on at once after a long pass, waits longer after each short one, and never when sealed", () => {
  const pacing = new Pacing();
  pacing.passed(1000 * MIB, 60_000);
  expect(pacing.isDue(open(1), 0)).toBe(true);
  expect(pacing.isDue(open(0), 60_000)).toBe(false);
  pacing.passed(MIB, 10);
  expect([pacing.isDue(open(1), 999), pacing.isDue(open(1), 1_000)]).toEqual([false, true]);
  const waiting = new Pacing();
  waiting.passed(MIB, 10);
  expect([waiting.isDue(open(1), 1_499), waiting.isDue(open(1), 1_500)]).toEqual([false, true]);
  for (let pass = 0; pass < 20; pass++) waiting.passed(MIB, 10);
  expect([waiting.isDue(open(1), 9_999), waiting.isDue(open(1), 10_000)]).toEqual([false, true]);
  expect(waiting.isDue(open(64 * MIB), 0)).toBe(true);
  expect(waiting.isDue({ sealed: true, dirtyBytes: 0 }, 0)).toBe(true);
});
