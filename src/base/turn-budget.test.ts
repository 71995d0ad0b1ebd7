import { expect, test } from "@jest/globals";
import { TurnBudget } from "./turn-budget.ts";

test("one turn of the event loop reads 512 KiB, and no more", async () => {
  const budget = new TurnBudget();
  for (let bytes = 0; bytes <= 512 * 1024; bytes += 4096) expect(budget.take(4096)).toBe(true);
  expect(budget.take(4096)).toBe(false);
  await new Promise((resolve) => setImmediate(resolve));
  expect(budget.take(4096)).toBe(true);
});

test("what waits for its turn gets it in order, no more in one turn than that", async () => {
  const budget = new TurnBudget();
  const granted: number[] = [];
  for (let index = 0; index < 9; index++) void budget.wait(256 * 1024).then(() => granted.push(index));
  const perTurn: number[] = [];
  while (granted.length < 9) {
    const before = granted.length;
    await new Promise((resolve) => setImmediate(resolve));
    perTurn.push(granted.length - before);
  }
  expect(granted).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8]);
  expect(perTurn).toEqual([3, 3, 3]);
});
