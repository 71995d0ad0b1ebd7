import { expect, test } from "@jest/globals";
import { vmRestoreSpec } from "../../api/vm-restore.ts";
import { budgetOf, inTime } from "./budgets.ts";

const NOW = Date.UTC(2026, 0, 1, 1);
const spec = vmRestoreSpec.parse({
  source: { repository: { name: "nightly" }, snapshot: { latest: {} } },
  virtualMachine: { name: "orders-db" },
  launch: { bootSetTimeout: "10s", guestReady: { timeout: "3m" } },
});
const at = (ms: number) => new Date(NOW - ms).toISOString();
const check = (step: string, age: number, before: Parameters<typeof inTime>[0]["before"] = []) =>
  inTime({
    ...{ spec, before, timeline: [{ step, startedAt: at(age) }] },
    ...{ waitsFor: "The claim is pending.", waits: undefined, now: NOW },
  });

test.each([
  ["Pending", 30_000],
  ["Preparing", 60_000],
  ["Staging", 15_000],
  ["Launching", 180_000],
])("%s has a budget, and is told of when it is used up", (step, budget) => {
  expect(budgetOf(step, spec)).toBe(budget);
  expect(check(step, budget)).toEqual([]);
  expect(check(step, budget + 1)).toEqual([
    expect.objectContaining({
      type: "InTime",
      status: "False",
      reason: `${step}TakesLong`,
      message: expect.stringMatching(
        new RegExp(`^${step} has lasted since .* no more than .*\\. The claim is pending\\.$`),
      ),
    }),
  ]);
});

test.each(["Queued", "DryRun", "Running", "Relocating", "OnTrial"])("%s takes as long as it takes", (step) => {
  expect(check(step, 1e12)).toEqual([]);
});

test("a restore that was late is in time again with the next step", () => {
  const late = {
    type: "InTime",
    status: "False",
    reason: "PendingTakesLong",
    message: "",
    lastTransitionTime: at(0),
  } as const;
  expect(check("Preparing", 1, [late])).toMatchObject([{ status: "True", reason: "AsExpected" }]);
});
