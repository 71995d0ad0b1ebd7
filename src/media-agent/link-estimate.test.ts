import { expect, test } from "@jest/globals";
import { LinkEstimate } from "./link-estimate.ts";

/** Requests that each take `tookMs`, `atOnce` of them always under way, for `ms` from `from` on. */
function load(estimate: LinkEstimate, { from = 0, ms = 2000, atOnce = 8, tookMs = 100 }): void {
  const pause = tookMs / atOnce;
  for (let now = from + tookMs; now <= from + ms; now += pause) estimate.ended(now, tookMs);
}

test("says nothing before a second and sixteen requests have passed", () => {
  const estimate = new LinkEstimate();
  load(estimate, { ms: 900 });
  expect(estimate.filling).toBe(Number.POSITIVE_INFINITY);
  const few = new LinkEstimate();
  load(few, { ms: 1500, atOnce: 1 });
  expect(few.filling).toBe(Number.POSITIVE_INFINITY);
});

test("where requests slow one another down, those fill the link that do not, and one", () => {
  const estimate = new LinkEstimate();
  // 80 requests a second: eight that take 100 ms, or one that takes 12.5.
  load(estimate, { atOnce: 8, tookMs: 100 });
  load(estimate, { from: 2000, atOnce: 1, tookMs: 12.5 });
  expect(estimate.filling).toBeCloseTo(2, 0);
});

test("where they do not, one more than there were", () => {
  const estimate = new LinkEstimate();
  load(estimate, { atOnce: 8, tookMs: 100 });
  load(estimate, { from: 2000, atOnce: 2, tookMs: 100 });
  expect(estimate.filling).toBeCloseTo(9, 0);
});

test("a few requests that were quicker than all others say nothing", () => {
  const estimate = new LinkEstimate();
  for (let count = 0; count < 100; count++) estimate.ended(25 * count, count % 10 === 0 ? 1 : 100);
  expect(estimate.filling).toBeCloseTo(5, 0);
});

test("forgets a pace that was long ago", () => {
  const estimate = new LinkEstimate();
  load(estimate, { atOnce: 8, tookMs: 100 });
  load(estimate, { from: 2000, ms: 12_000, atOnce: 2, tookMs: 100 });
  expect(estimate.filling).toBeCloseTo(3, 0);
});
