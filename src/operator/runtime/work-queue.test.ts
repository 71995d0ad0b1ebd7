import { expect, test } from "@jest/globals";
import { ManualClock } from "../../base/testing/manual-clock.ts";
import { WorkQueue } from "./work-queue.ts";

const turn = () => new Promise(setImmediate);

test("a key that is added many times is worked on once", async () => {
  const queue = new WorkQueue(new ManualClock());
  for (let i = 0; i < 5; i++) queue.add("a");
  queue.add("b");
  expect([await queue.take(), await queue.take()]).toEqual(["a", "b"]);
  expect(queue.length).toBe(0);
});

test("a key is never worked on by two, and comes again when it was added meanwhile", async () => {
  const queue = new WorkQueue(new ManualClock());
  queue.add("a");
  expect(await queue.take()).toBe("a");
  queue.add("a");
  let second: string | undefined;
  const taking = queue.take().then((key) => {
    second = key;
  });
  await turn();
  expect(second).toBeUndefined();
  queue.done("a");
  await taking;
  expect(second).toBe("a");
});

test("a key comes after its delay, the shortest one counts, and adding it cancels the delay", async () => {
  const clock = new ManualClock();
  const queue = new WorkQueue(clock);
  queue.addAfter("a", 5000);
  queue.addAfter("a", 1000);
  queue.addAfter("a", 9000);
  await clock.advance(999);
  expect(queue.length).toBe(0);
  await clock.advance(1);
  expect(await queue.take()).toBe("a");
  queue.done("a");
  queue.addAfter("b", 1000);
  queue.add("b");
  expect(await queue.take()).toBe("b");
  queue.done("b");
  await clock.advance(10_000);
  expect(queue.length).toBe(0);
});

test("failures wait longer each time, up to a limit, until one succeeds", async () => {
  const clock = new ManualClock();
  const queue = new WorkQueue(clock, { baseMs: 100, maxMs: 1000 });
  const waited: number[] = [];
  for (let i = 0; i < 6; i++) {
    const start = clock.now();
    queue.addRateLimited("a");
    while (queue.length === 0) await clock.advance(100);
    waited.push(clock.now() - start);
    await queue.take();
    queue.done("a");
  }
  expect(waited).toEqual([100, 200, 400, 800, 1000, 1000]);
  queue.forget("a");
  queue.addRateLimited("a");
  await clock.advance(100);
  expect(queue.length).toBe(1);
});

test("a closed queue lets its workers go", async () => {
  const queue = new WorkQueue(new ManualClock());
  const taking = queue.take();
  queue.close();
  expect(await taking).toBeUndefined();
  queue.add("a");
  expect(await queue.take()).toBeUndefined();
});
