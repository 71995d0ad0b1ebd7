import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { ByteBudget, CallLane } from "./call-lane.ts";

const KIB = 1024;

test("a lane is bounded in calls and bytes, and its first call always goes", () => {
  const budget = new ByteBudget(1000);
  const lane = new CallLane({ calls: 3, bytes: 500 }, budget, () => undefined);
  expect(lane.begin(5000)).toBe(true);
  expect(lane.begin(1)).toBe(false);
  lane.end();
  // What is held and not taken by the client still counts.
  expect(lane.begin(1)).toBe(false);
  lane.give(5000);
  expect([lane.begin(200), lane.begin(200), lane.begin(200), lane.begin(100), lane.begin(0)]).toEqual([
    true,
    true,
    false,
    true,
    false,
  ]);
  expect(budget.used).toBe(500);
});

test("whoever waits for others' bytes is woken when they come free, and not after it is closed", () => {
  const budget = new ByteBudget(1000);
  const woken: string[] = [];
  const lane = (name: string): CallLane =>
    new CallLane({ calls: 10, bytes: 1000 }, budget, () => {
      woken.push(name);
    });
  const [holder, first, second, gone] = [lane("holder"), lane("first"), lane("second"), lane("gone")];
  expect([holder.begin(900), first.begin(100), second.begin(1), gone.begin(1)]).toEqual([true, true, true, true]);
  expect([first.begin(10), second.begin(10), gone.begin(10)]).toEqual([false, false, false]);
  gone.close();
  holder.end();
  holder.give(900);
  expect(woken).toEqual(["first", "second"]);
  expect([first.begin(10), second.begin(10)]).toEqual([true, true]);
  second.end();
  second.give(10);
  expect(woken).toEqual(["first", "second"]);
});

test("large calls leave a quarter of the budget to small ones", () => {
  const budget = new ByteBudget(4000 * KIB);
  const limits = { calls: 100, bytes: 4000 * KIB };
  const [large, small] = [1, 2].map(() => new CallLane(limits, budget, () => undefined)) as [CallLane, CallLane];
  while (large.begin(500 * KIB));
  expect(budget.used).toBe(3000 * KIB);
  let calls = 0;
  while (small.begin(100 * KIB)) calls++;
  expect(calls).toBe(10);
});

test("no order of calls lets a budget be exceeded by more than one call of each lane", () => {
  const size = fc.integer({ min: 0, max: 400 });
  const action = fc.record({ lane: fc.nat(3), begins: fc.boolean(), bytes: size });
  fc.assert(
    fc.property(fc.array(action, { maxLength: 200 }), (actions) => {
      const budget = new ByteBudget(1000);
      const lanes = [0, 1, 2, 3].map(() => new CallLane({ calls: 8, bytes: 800 }, budget, () => undefined));
      const held: number[][] = lanes.map(() => []);
      for (const { lane, begins, bytes } of actions) {
        if (begins && lanes[lane]?.begin(bytes)) held[lane]?.push(bytes);
        else if (!begins && (held[lane]?.length ?? 0) > 0) {
          lanes[lane]?.end();
          lanes[lane]?.give(held[lane]?.shift() ?? 0);
        }
        const used = held.flat().reduce((sum, each) => sum + each, 0);
        expect(budget.used).toBe(used);
        expect(used).toBeLessThanOrEqual(1000 + 4 * 400);
      }
    }),
  );
});
