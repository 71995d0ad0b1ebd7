import { expect, test } from "@jest/globals";
import { deferred } from "./deferred.ts";
import { Semaphore } from "./semaphore.ts";

test("never lets more than its permits in, and serves waiters in order", async () => {
  const semaphore = new Semaphore(2);
  const gates = [deferred(), deferred(), deferred(), deferred()];
  const started: number[] = [];
  const done = gates.map((gate, index) =>
    semaphore.use(async () => {
      started.push(index);
      await gate.promise;
    }),
  );
  await Promise.resolve();
  expect(started).toEqual([0, 1]);
  gates[1]?.resolve();
  await done[1];
  await new Promise(setImmediate);
  expect(started).toEqual([0, 1, 2]);
  for (const gate of gates) gate.resolve();
  await Promise.all(done);
  expect(started).toEqual([0, 1, 2, 3]);
});

test("gives the permit back when the body throws", async () => {
  const semaphore = new Semaphore(1);
  await expect(semaphore.use(() => Promise.reject(new Error("no")))).rejects.toThrow("no");
  await expect(semaphore.use(() => Promise.resolve(7))).resolves.toBe(7);
});
