import { expect, test } from "@jest/globals";
import { Arrival, kernelBytes } from "./arrival.ts";

const FULL = 65_536;

test("what is read without a pause has just come, however long nothing came", () => {
  const arrival = new Arrival(64 * 1024 * 1024);
  expect([arrival.read(100, 5), arrival.read(FULL, 6), arrival.read(100, 1000)]).toEqual([5, 6, 1000]);
});

test("what is read after a pause may have waited since it began, until less was there than could be read", () => {
  const arrival = new Arrival(64 * 1024 * 1024);
  arrival.paused(10);
  // The first pieces may be older than the pause's end.
  for (let piece = 0; piece < 4; piece++) expect(arrival.read(100, 50)).toBe(10);
  expect(arrival.read(FULL, 60)).toBe(60);
  arrival.paused(70);
  for (let piece = 0; piece < 10; piece++) expect(arrival.read(FULL, 80)).toBe(70);
  arrival.paused(90);
  expect(arrival.read(100, 95)).toBe(70);
});

test("a backlog that never ends is as young as what the kernel can keep", () => {
  const arrival = new Arrival(64 * 1024 * 1024);
  arrival.paused(0);
  let now = 0;
  for (let piece = 0; piece < 10_000; piece++) {
    now++;
    const since = arrival.read(FULL, now);
    if (piece % 100 === 0) arrival.paused(now);
    expect(since).toBeLessThanOrEqual(now);
    // 64 MiB are 1024 pieces.
    expect(now - since).toBeLessThanOrEqual(2 * 1030);
    if (piece > 3000) expect(since).toBeGreaterThan(0);
  }
});

test("knows what the kernel keeps", () => {
  expect(kernelBytes()).toBeGreaterThanOrEqual(65_536);
});
