import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { retryPause } from "./requests.ts";

test("pauses double up to five seconds, spread between the half and the whole", () => {
  const pauses = [1, 2, 3, 4, 5, 6, 20].map((tried) =>
    [0, 0.999999].map((random) => retryPause(tried, random, undefined)),
  );
  expect(pauses.map(([least]) => least)).toEqual([100, 200, 400, 800, 1600, 2500, 2500]);
  expect(pauses.map(([, most]) => Math.round(most ?? 0))).toEqual([200, 400, 800, 1600, 3200, 5000, 5000]);
});

test("a server's wish is heeded, within bounds, whatever it says", () => {
  expect(retryPause(1, 0, "2")).toBe(2000);
  expect(retryPause(1, 0, "86400")).toBe(5000);
  fc.assert(
    fc.property(fc.nat(20), fc.double({ min: 0, max: 0.99, noNaN: true }), fc.string(), (tried, random, asked) => {
      const pause = retryPause(tried + 1, random, asked);
      expect(pause).toBeGreaterThanOrEqual(100);
      expect(pause).toBeLessThanOrEqual(5000);
    }),
  );
});
