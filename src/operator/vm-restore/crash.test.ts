import { expect, test } from "@jest/globals";
import { VIRTUAL_MACHINES, VM_RESTORES } from "../kinds.ts";
import { EVENTS } from "../runtime/event-recorder.ts";
import { Crash, phaseIs, play, restoreIn } from "./testing/run.ts";
import { TENANT, World } from "./testing/world.ts";

const UID = /[0-9a-f]{8}-[0-9a-f-]{27}/g;

/** What must be the same at the end, whenever the operator died: objects, the machine, and what the status claims. */
function endState(world: World) {
  const keys = world.cluster.keys().filter((key) => !key.startsWith("Event/"));
  const machine = world.cluster.peek(VIRTUAL_MACHINES, TENANT, "orders-db");
  const status = restoreIn(world)?.status;
  return {
    keys: keys.map((key) => key.replace(UID, "UID")),
    machine: JSON.parse(JSON.stringify(machine?.spec).replace(UID, "UID")),
    annotations: Object.keys(machine?.metadata.annotations ?? {}),
    phase: status?.phase,
    conditions: status?.conditions?.map(({ type, status: value, reason }) => `${type}=${value} ${reason}`).sort(),
    snapshot: status?.snapshot,
    percent: status?.relocation?.percent,
  };
}

async function whole(prepare: (world: World) => void) {
  const world = new World();
  world.restore();
  prepare(world);
  await play(world, phaseIs("Completed"), 300);
  return { world, state: endState(world) };
}

/** Dies once, before or after the nth write to the cluster or the agent. */
function dieAt(world: World, wanted: number, when: "before" | "after"): void {
  let seen = 0;
  const count = (moment: "before" | "after"): void => {
    if (moment !== when) return;
    seen++;
    if (seen === wanted) throw new Crash();
  };
  world.cluster.onWrite = (write, moment) => {
    // The recorder of events swallows errors, as it should.
    if (write.type !== EVENTS) count(moment);
  };
  world.onTell = (_, moment) => count(moment);
}

test("an operator that dies before or after any write is followed by one that comes to the same end", async () => {
  const { world, state } = await whole(() => undefined);
  expect(state.phase).toBe("Completed");
  const writes = world.cluster.writes.filter(({ type }) => type !== EVENTS).length + world.told.length;
  expect(writes).toBeGreaterThan(40);
  for (let n = 1; n <= writes; n++) {
    for (const when of ["before", "after"] as const) {
      const run = await whole((other) => dieAt(other, n, when));
      expect({ n, when, ...run.state }).toEqual({ n, when, ...state });
      // The disk is sealed, copied whole and the Job gone before the machine is switched; the pin goes before the agent.
      expect(run.world.sealed).toBe(true);
      expect(run.world.progress?.state).toBe("Done");
      expect(run.world.told).toContain("unpin");
    }
  }
}, 120_000);

test("deleting a completed restore leaves the machine and its claim", async () => {
  const { world } = await whole(() => undefined);
  const before = world.cluster.keys();
  world.cluster.erase(VM_RESTORES, TENANT, "orders-db");
  await play(world, (restore) => restore === undefined);
  expect(world.cluster.keys()).toEqual(before.filter((key) => key !== "VMRestore/default/orders-db"));
});
