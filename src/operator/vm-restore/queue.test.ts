import { expect, test } from "@jest/globals";
import fc from "fast-check";
import type { Condition } from "../../api/common.ts";
import type { VMRestore } from "../../api/vm-restore.ts";
import { type Contender, contenderOf, type Limits, turnOf } from "./queue.ts";

const limits = (perNamespace: number | undefined, perRepository: Record<string, number> = {}): Limits => ({
  perNamespace,
  perRepository: new Map(Object.entries(perRepository)),
});

function contender(
  uid: string,
  created: number,
  state: Contender["state"],
  namespace = "a",
  ...repositories: string[]
): Contender {
  return { uid, created, state, namespace, repositories: repositories.length === 0 ? ["r"] : repositories };
}

test("first come, first served, and of two made at once the lesser uid", () => {
  const all = [
    contender("z", 1, "waiting"),
    contender("y", 2, "waiting"),
    contender("x", 2, "waiting"),
    contender("w", 0, "holding"),
  ];
  const places = ["z", "x", "y"].map((uid) => turnOf(uid, all, limits(1)));
  expect(places).toEqual(
    [1, 2, 3].map((position) => ({ isTurn: false, repository: undefined, position, waiting: 3, limit: 1 })),
  );
  expect(["z", "x", "y"].map((uid) => turnOf(uid, all, limits(2)).isTurn)).toEqual([true, false, false]);
});

test("one that its namespace has no room for holds up nobody of another namespace", () => {
  const all = [
    contender("h", 0, "holding", "a"),
    contender("old", 1, "waiting", "a"),
    contender("young", 2, "waiting", "b"),
  ];
  expect(turnOf("old", all, limits(1, { r: 2 }))).toMatchObject({ isTurn: false, repository: undefined });
  expect(turnOf("young", all, limits(1, { r: 2 })).isTurn).toBe(true);
});

test("one that its repository has no slot for is not overtaken in its namespace by one that reads another", () => {
  const all = [
    contender("h", 0, "holding", "b", "r"),
    contender("old", 1, "waiting", "a", "r"),
    contender("young", 2, "waiting", "a", "s"),
  ];
  expect(turnOf("old", all, limits(1, { r: 1 }))).toMatchObject({ isTurn: false, repository: "r", position: 1 });
  expect(turnOf("young", all, limits(1, { r: 1 }))).toMatchObject({
    isTurn: false,
    repository: undefined,
    position: 2,
  });
});

const crowd = fc.array(
  fc.record({
    created: fc.integer({ min: 0, max: 20 }),
    namespace: fc.constantFrom("a", "b", "c"),
    repositories: fc.subarray(["r", "s"], { minLength: 1 }),
  }),
  { minLength: 1, maxLength: 25 },
);

test("whatever comes and goes, limits are kept, room is used, and everybody's turn comes", () => {
  fc.assert(
    fc.property(
      crowd,
      fc.integer({ min: 1, max: 3 }),
      fc.integer({ min: 1, max: 3 }),
      fc.infiniteStream(fc.nat()),
      (given, perNamespace, perRepository, random) => {
        const bounds = limits(perNamespace, { r: perRepository, s: perRepository });
        let all: Contender[] = given.map((one, index) => ({
          ...one,
          uid: String(index).padStart(2, "0"),
          state: "waiting",
        }));
        const state = (uid: string, next: Contender["state"]): void => {
          all = all.map((one) => (one.uid === uid ? { ...one, state: next } : one));
        };
        const done: string[] = [];
        for (let round = 0; round < given.length * 2 && done.length < given.length; round++) {
          // In any order, each sees what those before it did.
          const waiting = all.filter((one) => one.state === "waiting");
          const at = (random.next().value ?? 0) % Math.max(1, waiting.length);
          for (const { uid } of [...waiting.slice(at), ...waiting.slice(0, at)])
            if (turnOf(uid, all, bounds).isTurn) state(uid, "holding");
          const holding = all.filter((one) => one.state === "holding");
          expect(holding.length).toBeGreaterThan(0);
          for (const key of ["a", "b", "c"])
            expect(holding.filter(({ namespace }) => namespace === key).length).toBeLessThanOrEqual(perNamespace);
          for (const key of ["r", "s"])
            expect(holding.filter(({ repositories }) => repositories.includes(key)).length).toBeLessThanOrEqual(
              perRepository,
            );
          const leaves = holding[(random.next().value ?? 0) % holding.length];
          if (leaves !== undefined) {
            state(leaves.uid, "neither");
            done.push(leaves.uid);
          }
        }
        expect(done).toHaveLength(given.length);
      },
    ),
  );
});

test.each<[string, Partial<VMRestore["status"]>, Contender["state"]]>([
  ["was just applied", {}, "neither"],
  ["waits for its turn", { phase: "Pending", conditions: [condition("Admitted", "False", "Queued")] }, "waiting"],
  ["is a dry run", { phase: "Pending", conditions: [condition("Admitted", "False", "DryRun")] }, "neither"],
  ["was let begin", { phase: "Pending", conditions: [condition("Admitted", "True", "Admitted")] }, "holding"],
  ["began before there was a limit", { phase: "Staging", conditions: [] }, "holding"],
  ["copies", { phase: "Relocating", conditions: [condition("Relocated", "False", "Copying")] }, "holding"],
  [
    "waits for leave to begin",
    { phase: "Running", conditions: [condition("Relocated", "False", "AwaitingBegin")] },
    "neither",
  ],
  ["is paused", { phase: "Relocating", conditions: [condition("Relocated", "False", "Paused")] }, "neither"],
  [
    "waits for leave to cut over",
    { phase: "Relocating", conditions: [condition("CutOver", "False", "AwaitingApproval")] },
    "neither",
  ],
  ["is cut over", { phase: "CuttingOver", conditions: [condition("CutOver", "False", "FinalPass")] }, "holding"],
  ["is on trial", { phase: "OnTrial", conditions: [condition("CutOver", "True", "Switched")] }, "neither"],
  ["is a live mount that boots", { phase: "Launching", strategy: "None", conditions: [] }, "holding"],
  [
    "is a live mount that runs",
    { phase: "Running", strategy: "None", conditions: [condition("GuestReady", "True", "Running")] },
    "neither",
  ],
  ["failed", { phase: "Failed", conditions: [condition("Admitted", "True", "Admitted")] }, "neither"],
  [
    "is over",
    {
      phase: "Completed",
      conditions: [condition("Admitted", "True", "Admitted"), condition("Completed", "True", "Completed")],
    },
    "neither",
  ],
])("a restore that %s", (_, status, state) => {
  const restore = { metadata: { name: "n", namespace: "a" }, spec: { source: { repository: { name: "r" } } }, status };
  expect(contenderOf(restore as VMRestore)).toMatchObject({ state, repositories: ["a/r"] });
});

test("one that reads two repositories waits until both have a place for it", () => {
  const all = [
    contender("h", 0, "holding", "a", "s"),
    contender("both", 1, "waiting", "a", "r", "s"),
    contender("one", 2, "waiting", "a", "r"),
  ];
  expect(turnOf("both", all, limits(undefined, { r: 1, s: 1 }))).toMatchObject({
    isTurn: false,
    repository: "s",
    position: 1,
    waiting: 1,
  });
  // Its place in the other one is kept: it would never get both at once.
  expect(turnOf("one", all, limits(undefined, { r: 1, s: 1 }))).toMatchObject({
    isTurn: false,
    repository: "r",
    position: 2,
  });
  expect(turnOf("one", all, limits(undefined, { r: 2, s: 1 })).isTurn).toBe(true);
});

test("the repositories of single disks count, also those of other namespaces", () => {
  const source = {
    repository: { name: "r" },
    disks: [{}, { repository: { name: "s", namespace: "b" } }, { repository: { name: "r" } }],
  };
  expect(
    contenderOf({ metadata: { name: "n", namespace: "a" }, spec: { source } } as unknown as VMRestore).repositories,
  ).toEqual(["a/r", "b/s"]);
});

test("one that is deleted while it waits holds nobody up", () => {
  const metadata = { name: "n", namespace: "a", deletionTimestamp: "2026-01-01T00:00:00Z" };
  const status = { conditions: [condition("Admitted", "False", "Queued")] };
  expect(contenderOf({ metadata, spec: null, status } as unknown as VMRestore).state).toBe("neither");
});

function condition(type: string, status: "True" | "False", reason: string): Condition {
  return { type, status, reason, message: "", lastTransitionTime: "2026-01-01T00:00:00Z" };
}

test.each([
  ["Relocated", "LiveMigrationNotPossible"],
  ["Relocated", "LiveMigrationGivenUp"],
  ["Relocated", "VolumesChanged"],
  ["Relocated", "RollBackDecided"],
  ["TornDown", "MachineDependsOnAgent"],
])("one that waits for people with %s %s holds no place", (type, reason) => {
  const condition = (of: string, status: string, why: string) => ({ type: of, status, reason: why }) as Condition;
  const restore = (...conditions: Condition[]) =>
    ({
      metadata: { name: "a", namespace: "a", uid: "u" },
      status: { phase: "Running", conditions: [condition("Admitted", "True", "Admitted"), ...conditions] },
    }) as unknown as VMRestore;
  expect(contenderOf(restore()).state).toBe("holding");
  expect(contenderOf(restore(condition(type, "False", reason))).state).toBe("neither");
});
