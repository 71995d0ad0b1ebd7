import { expect, test } from "@jest/globals";
import { deferred } from "../base/deferred.ts";
import { ManualClock } from "../base/testing/manual-clock.ts";
import { AnswerLimit } from "./answer-limit.ts";

function limit(atOnce = 2): { clock: ManualClock; limited: AnswerLimit } {
  const clock = new ManualClock();
  return {
    clock,
    limited: new AnswerLimit({ clock, limitMs: 20_000, againMs: 200, atOnce, error: () => new Error("late") }),
  };
}

test("what is done in time is answered as it is", async () => {
  const { clock, limited } = limit();
  const work = deferred<string>();
  const answer = limited.run("1", () => work.promise);
  await clock.advance(19_999);
  work.resolve("done");
  expect(await answer).toBe("done");
  await expect(limited.run("2", () => Promise.reject(new Error("broken")))).rejects.toThrow("broken");
  expect(limited.begun).toBe(0);
});

test("what is not is given up at its own time, and still counts until it ends", async () => {
  const { clock, limited } = limit();
  const first = deferred<string>();
  const second = deferred<string>();
  let isAborted = false;
  const firstAnswer = limited.run("3", (signal) => {
    signal.addEventListener("abort", () => {
      isAborted = true;
    });
    return first.promise;
  });
  const failed = expect(firstAnswer).rejects.toThrow("late");
  await clock.advance(15_000);
  const secondAnswer = limited.run("4", () => second.promise);
  await clock.advance(5000);
  await failed;
  expect(isAborted).toBe(true);
  expect(limited.begun).toBe(2);
  second.resolve("in time");
  expect(await secondAnswer).toBe("in time");
  expect(limited.begun).toBe(1);
  first.resolve("too late");
  await first.promise;
  await clock.advance(0);
  expect(limited.begun).toBe(0);
});

test("what is beyond the bound waits for its turn, and never begins when that does not come in time", async () => {
  const { clock, limited } = limit(1);
  const stuck = deferred();
  const answers = [limited.run("5", () => stuck.promise)];
  let begun = 0;
  for (let count = 0; count < 1000; count++) {
    answers.push(
      limited.run("6", async () => {
        begun++;
      }),
    );
  }
  const all = Promise.allSettled(answers);
  await clock.advance(20_000);
  expect((await all).every(({ status }) => status === "rejected")).toBe(true);
  expect(begun).toBe(0);
  stuck.resolve();
  await clock.advance(0);
  await limited.run("7", async () => {
    begun++;
  });
  expect(begun).toBe(1);
});

test("turns are taken in order", async () => {
  const { limited } = limit(1);
  const order: number[] = [];
  await Promise.all([1, 2, 3].map((number) => limited.run(`turn ${number}`, async () => order.push(number))));
  expect(order).toEqual([1, 2, 3]);
});

test("what comes again after it was given up is given up soon, until it is done once", async () => {
  const { clock, limited } = limit(8);
  const hang = (): Promise<never> => new Promise(() => undefined);
  const first = expect(limited.run("read 0", hang)).rejects.toThrow("late");
  await clock.advance(20_000);
  await first;
  const again = expect(limited.run("read 0", hang)).rejects.toThrow("late");
  const other = limited.run("read 1", hang);
  const otherEnds = expect(other).rejects.toThrow("late");
  await clock.advance(200);
  await again;
  expect(await limited.run("read 0", async () => "back")).toBe("back");
  let isLate = false;
  limited.run("read 0", hang).catch(() => {
    isLate = true;
  });
  await clock.advance(19_000);
  expect(isLate).toBe(false);
  await clock.advance(1000);
  await otherEnds;
  expect(isLate).toBe(true);
});
