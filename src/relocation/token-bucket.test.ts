import { expect, test } from "@jest/globals";
import { heldBy } from "../base/testing/held-by-signal.ts";
import { ManualClock } from "../base/testing/manual-clock.ts";
import { TokenBucket } from "./token-bucket.ts";

const never = new AbortController().signal;

test("lets no more through than its rate, after a quarter of a second's worth", async () => {
  const clock = new ManualClock();
  const start = clock.monotonic();
  const bucket = new TokenBucket(1000, clock);
  const passed: number[] = [];
  const takers = Array.from({ length: 10 }, () =>
    bucket.take(250, never).then(() => {
      passed.push(clock.monotonic() - start);
    }),
  );
  await clock.advance(0);
  for (let step = 0; step < 60; step++) await clock.advance(50);
  await Promise.all(takers);
  // The first is in the bucket, the second goes into debt, each other one waits for it to be paid.
  expect(passed).toEqual([0, 0, 250, 500, 750, 1000, 1250, 1500, 1750, 2000]);
});

test("saves nothing up while nobody takes", async () => {
  const clock = new ManualClock();
  const bucket = new TokenBucket(1000, clock);
  await clock.advance(60_000);
  const start = clock.monotonic();
  const passed: number[] = [];
  for (let count = 0; count < 4; count++) {
    void bucket.take(500, never).then(() => passed.push(clock.monotonic() - start));
  }
  await clock.advance(0);
  for (let step = 0; step < 20; step++) await clock.advance(50);
  expect(passed).toEqual([0, 250, 750]);
});

test("one that gives up takes nothing from the next", async () => {
  const clock = new ManualClock();
  const start = clock.monotonic();
  const bucket = new TokenBucket(1000, clock);
  await bucket.take(1250, never);
  const abort = new AbortController();
  const given = bucket.take(1_000_000, abort.signal);
  let at: number | undefined;
  void bucket.take(1, never).then(() => {
    at = clock.monotonic() - start;
  });
  await clock.advance(500);
  abort.abort(new Error("enough"));
  await expect(given).rejects.toThrow("enough");
  await clock.advance(600);
  expect(at).toBe(1000);
});

test("a rate that is changed counts at once, for those who wait too", async () => {
  const clock = new ManualClock();
  const start = clock.monotonic();
  const bucket = new TokenBucket(1, clock);
  await bucket.take(10_000, never);
  const passed: number[] = [];
  void bucket.take(1000, never).then(() => passed.push(clock.monotonic() - start));
  void bucket.take(1000, never).then(() => passed.push(clock.monotonic() - start));
  await clock.advance(1000);
  bucket.rate = 1000;
  // 9,998.75 bytes of debt are left, then a thousand more.
  await clock.advance(9_990);
  expect(passed).toEqual([]);
  await clock.advance(10);
  expect(passed).toHaveLength(1);
  await clock.advance(995);
  expect(passed).toHaveLength(1);
  await clock.advance(10);
  expect(passed).toHaveLength(2);
});

test("without a limit nobody waits, and a limit that comes back finds neither debts nor savings", async () => {
  const clock = new ManualClock();
  const bucket = new TokenBucket(1, clock);
  await bucket.take(1_000_000, never);
  const waiting = bucket.take(1_000_000, never);
  await clock.advance(0);
  bucket.rate = Number.POSITIVE_INFINITY;
  await waiting;
  for (let count = 0; count < 3; count++) await bucket.take(1_000_000, never);
  await clock.advance(60_000);
  bucket.rate = 1000;
  const start = clock.monotonic();
  await bucket.take(1000, never);
  let at: number | undefined;
  void bucket.take(1, never).then(() => {
    at = clock.monotonic() - start;
  });
  for (let step = 0; step < 40; step++) await clock.advance(50);
  expect(at).toBe(1000);
});

test("who waits leaves nothing with a signal that lives for as long as the copy", async () => {
  const clock = new ManualClock();
  const bucket = new TokenBucket(1000, clock);
  const { signal } = new AbortController();
  const take = async (): Promise<void> => {
    const taken = bucket.take(1000, signal);
    await clock.advance(1000);
    await taken;
  };
  for (let count = 0; count < 2; count++) await take();
  const before = heldBy(signal);
  for (let count = 0; count < 10; count++) await take();
  expect(heldBy(signal)).toBe(before);
});
