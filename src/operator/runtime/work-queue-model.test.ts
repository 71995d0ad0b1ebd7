import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { ManualClock } from "../../base/testing/manual-clock.ts";
import { WorkQueue } from "./work-queue.ts";

const KEYS = ["a", "b", "c"];
const key = fc.constantFrom(...KEYS);
const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant("add" as const), key }) },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant("after" as const), key, ms: fc.integer({ min: -10, max: 3000 }) }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("take" as const) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("succeed" as const), nth: fc.nat(3) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("fail" as const), nth: fc.nat(3), least: fc.nat(2000) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("wait" as const), ms: fc.nat(1500) }) },
);

test("no key is with two workers, none that was added is lost, and none comes before it is due", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
      const clock = new ManualClock();
      const queue = new WorkQueue(clock, { baseMs: 100, maxMs: 1000 });
      /** The model: when each key may be handed out at the earliest, if at all. */
      const due = new Map<string, number>();
      const failures = new Map<string, number>();
      const working: string[] = [];
      let takers = 0;
      const owe = (which: string, ms: number) => {
        const at = clock.now() + Math.max(0, ms);
        due.set(which, Math.min(due.get(which) ?? Number.POSITIVE_INFINITY, at));
      };
      const take = () => {
        takers++;
        void queue.take().then((taken) => {
          takers--;
          if (taken === undefined) return;
          expect(working).not.toContain(taken);
          expect(due.get(taken)).toBeLessThanOrEqual(clock.now());
          due.delete(taken);
          working.push(taken);
        });
      };
      const settle = async () => {
        await clock.advance(0);
        const ready = KEYS.filter((each) => (due.get(each) ?? Number.POSITIVE_INFINITY) <= clock.now());
        // Whoever waits for a key gets one that is ready and with nobody.
        if (takers > 0) expect(ready.filter((each) => !working.includes(each))).toEqual([]);
      };
      for (const one of steps) {
        if (one.do === "add") {
          owe(one.key, 0);
          queue.add(one.key);
        } else if (one.do === "after") {
          owe(one.key, one.ms);
          queue.addAfter(one.key, one.ms);
        } else if (one.do === "take" && takers < 3) take();
        else if (one.do === "wait") await clock.advance(one.ms);
        else if (one.do === "succeed" || one.do === "fail") {
          const [done] = working.splice(one.nth % Math.max(1, working.length), 1);
          if (done === undefined) continue;
          if (one.do === "succeed") {
            failures.delete(done);
            queue.forget(done);
          } else {
            const count = failures.get(done) ?? 0;
            failures.set(done, count + 1);
            owe(done, Math.min(1000, Math.max(one.least, 100 * 2 ** count)));
            queue.addRateLimited(done, one.least);
          }
          queue.done(done);
        }
        await settle();
      }
      // Workers that go on get everything that is owed.
      for (let i = 0; i < 40 && due.size + working.length > 0; i++) {
        for (const done of working.splice(0)) {
          queue.forget(done);
          queue.done(done);
        }
        if (takers === 0) take();
        await clock.advance(500);
      }
      expect([...due.keys(), ...working]).toEqual([]);
      queue.close();
      await clock.advance(0);
      expect(takers).toBe(0);
    }),
    { numRuns: 300 },
  );
});

test("a key that fails for ever is tried for ever, at the longest delay, and what it holds does not grow", async () => {
  const clock = new ManualClock();
  const queue = new WorkQueue(clock, { baseMs: 100, maxMs: 60_000 });
  for (let i = 0; i < 2000; i++) {
    queue.addRateLimited("a");
    await clock.advance(60_000);
    expect(queue.length).toBe(1);
    expect(await queue.take()).toBe("a");
    queue.done("a");
  }
  queue.close();
  queue.addRateLimited("a");
  await clock.advance(60_000);
  expect(queue.length).toBe(0);
});
