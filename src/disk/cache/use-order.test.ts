import { mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { restoreUses, saveUses, useOrderBytes } from "./use-order.ts";

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "use-order-"));
});

afterEach(() => rm(directory, { recursive: true, force: true }));

const id = (number: number): string => number.toString(16).padStart(64, "0");
const entries = (uses: Readonly<Record<number, number>>) =>
  new Map(Object.entries(uses).map(([number, used]) => [id(Number(number)), { used }]));
const sorted = (map: ReadonlyMap<string, { used: number }>): number[] =>
  [...map].sort(([, a], [, b]) => a.used - b.used).map(([name]) => Number.parseInt(name, 16));

test("gives the order back; what is new came last, what is gone does not matter", async () => {
  await saveUses(directory, entries({ 1: 50, 2: 7, 3: 20, 4: 30 }), 1e9);
  const again = entries({ 9: 0, 1: 0, 2: 0, 3: 0 });
  expect(await restoreUses(directory, again)).toBe(4);
  expect(sorted(again)).toEqual([2, 3, 1, 9]);
  expect(await readdir(directory)).toEqual(["order"]);
});

test("without a file, or with a damaged one, every entry has a place", async () => {
  const all = entries({ 1: 0, 2: 0 });
  expect(await restoreUses(directory, all)).toBe(2);
  await writeFile(join(directory, "order"), Buffer.alloc(1000, 0xee));
  const again = entries({ 1: 0, 2: 0, 3: 0 });
  expect(await restoreUses(directory, again)).toBe(3);
  expect(new Set([...again.values()].map(({ used }) => used))).toEqual(new Set([1, 2, 3]));
});

test("takes no more than its part, and keeps the last used", async () => {
  const many = entries(Object.fromEntries(Array.from({ length: 1000 }, (_, index) => [index, index + 1])));
  const limit = 64 * 1024 * 1024;
  await saveUses(directory, many, limit);
  const { size } = await stat(join(directory, "order"));
  expect(2 * size).toBeLessThanOrEqual(useOrderBytes(limit));
  const again = entries({ 0: 0, 998: 0, 999: 0 });
  await restoreUses(directory, again);
  expect(sorted(again)).toEqual([998, 999, 0]);
});
