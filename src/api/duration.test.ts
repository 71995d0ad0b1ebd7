import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { duration, formatDuration, parseDuration } from "./duration.ts";

test.each([
  ["30s", 30_000],
  ["1h30m", 5_400_000],
  ["1.5s", 1500],
  ["250ms", 250],
  ["0s", 0],
])("%s is %d ms", (text, ms) => {
  expect(parseDuration(text)).toBe(ms);
});

test.each(["", "30", "s", "-1s", "1d", "1h 30m", "1..5s"])("%p is refused", (text) => {
  expect(duration.safeParse(text).success).toBe(false);
  expect(() => parseDuration(text)).toThrow(RangeError);
});

test.each([
  [0, "0s"],
  [1234, "1.2s"],
  [59_960, "1m"],
  [5_400_000, "1h30m"],
  [3_601_000, "1h1s"],
])("%d ms is written %s", (ms, text) => {
  expect(formatDuration(ms)).toBe(text);
});

test("what is formatted is a duration within a second of what it was", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 10 ** 9 }), (ms) => {
      expect(Math.abs(parseDuration(formatDuration(ms)) - ms)).toBeLessThan(1000);
    }),
  );
});
