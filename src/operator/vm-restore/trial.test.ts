import { expect, test } from "@jest/globals";
import type { Condition } from "../../api/common.ts";
import { LABELS } from "../../api/group.ts";
import type { VMRestore } from "../../api/vm-restore.ts";
import { vmRestoreSpec } from "../../api/vm-restore.ts";
import type { Claim, VirtualMachine } from "../kinds.ts";
import type { Observed } from "./observed.ts";
import { verdictOf } from "./trial.ts";

const SWITCHED = Date.UTC(2026, 0, 1);
const HOUR = 3600_000;

interface Case {
  readonly trial?: object;
  /** Milliseconds since the guest was ready on the target. */
  readonly age?: number;
  readonly cutOver?: Partial<Condition> | null;
  readonly change?: Partial<Observed>;
  readonly deleted?: boolean;
}

function observe({ trial, age = 0, cutOver = {}, change = {}, deleted = false }: Case): Observed {
  const condition = {
    type: "CutOver",
    status: "True",
    reason: "Switched",
    message: "",
    lastTransitionTime: new Date(SWITCHED).toISOString(),
    ...cutOver,
  } as Condition;
  const restore = {
    metadata: { name: "orders-db", uid: "u", ...(deleted ? { deletionTimestamp: "2026-01-01T00:00:00Z" } : {}) },
    status: { conditions: cutOver === null ? [] : [condition] },
  } as VMRestore;
  return {
    now: SWITCHED + age,
    restore,
    spec: vmRestoreSpec.parse({
      source: { repository: { name: "nightly" }, snapshot: { latest: {} } },
      virtualMachine: { name: "orders-db" },
      relocation: trial === undefined ? {} : { trial },
    }),
    machine: { metadata: { name: "orders-db", labels: { [LABELS.restoreUid]: "u" } } } as unknown as VirtualMachine,
    overlay: { metadata: { name: "overlay" } } as Claim,
    instance: undefined,
    ...change,
  } as Observed;
}

test.each<[string, Case, object]>([
  ["no trial was asked for", {}, { is: "commit", reason: "NoTrial" }],
  ["its time is not over", { trial: { period: "1h" }, age: HOUR - 1 }, { is: "wait", endsAt: SWITCHED + HOUR }],
  ["its time is over", { trial: { period: "1h" }, age: HOUR }, { is: "commit", reason: "TrialOver" }],
  [
    "its time is over, and goes back",
    { trial: { period: "1h", onExpiry: "RollBack" }, age: HOUR },
    { is: "roll back" },
  ],
  [
    "its time is over, and waits",
    { trial: { period: "1h", onExpiry: "Wait" }, age: HOUR },
    { is: "wait", endsAt: undefined },
  ],
  ["there is no time", { trial: { onExpiry: "Wait" } }, { is: "wait", endsAt: undefined }],
  ["it was committed early", { trial: { period: "1h", decision: "Commit" } }, { is: "commit", reason: "Decided" }],
  ["it was taken back", { trial: { period: "1h", decision: "RollBack" } }, { is: "roll back" }],
  [
    "it was taken back before the guest was ready",
    { trial: { decision: "RollBack" }, cutOver: null },
    { is: "roll back" },
  ],
  [
    "the guest is not ready yet",
    { trial: { period: "1s" }, cutOver: { status: "False", reason: "Starting" }, age: HOUR },
    { is: "wait", endsAt: undefined },
  ],
  [
    "the guest never got ready",
    { trial: { period: "1s" }, cutOver: { reason: "GuestNotReady" }, age: HOUR },
    { is: "wait", endsAt: undefined },
  ],
  [
    "the machine is gone",
    { trial: { period: "1h", decision: "RollBack" }, change: { machine: undefined } },
    { is: "commit", reason: "MachineDeleted" },
  ],
  [
    "the overlay is gone",
    { trial: { period: "1h", decision: "RollBack" }, change: { overlay: undefined } },
    { is: "commit", reason: "NoWayBack" },
  ],
  ["the restore is being deleted", { trial: { period: "1h" }, deleted: true }, { is: "commit", reason: "Deleted" }],
])("where %s", (_, how, verdict) => {
  expect(verdictOf(observe(how))).toMatchObject(verdict);
});

test("a trial that takes the machine back needs a time", () => {
  const parse = (trial: object) =>
    vmRestoreSpec.shape.relocation.safeParse({ trial }).error?.issues.map(({ message }) => message) ?? [];
  expect(parse({ onExpiry: "RollBack" })).toEqual(["a trial that ends with RollBack needs a `period`"]);
  expect(parse({ onExpiry: "RollBack", period: "1m" })).toEqual([]);
});
