import { expect, test } from "@jest/globals";
import { RateWindow } from "./rate-window.ts";

test("is what passed in the window, per second", () => {
  const rate = new RateWindow(10_000, 1000);
  expect(rate.rate(1000)).toBe(0);
  rate.add(5000, 2000);
  expect(rate.rate(2000)).toBe(5000);
  expect(rate.rate(6000)).toBe(1000);
  rate.add(15_000, 11_000);
  expect(rate.rate(11_000)).toBe(2000);
});

test("goes to zero when nothing passes any more", () => {
  const rate = new RateWindow(10_000, 0);
  rate.add(1_000_000, 100);
  expect(rate.rate(9_999)).toBeGreaterThan(0);
  expect(rate.rate(10_101)).toBe(0);
});
