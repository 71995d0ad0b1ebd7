import { expect, test } from "@jest/globals";
import { conditionOf } from "../conditions.ts";
import { CLAIMS, INSTANCES, JOBS, SECRETS, STATEFUL_SETS, VIRTUAL_MACHINES, VM_RESTORES, VOLUMES } from "../kinds.ts";
import { EVENTS } from "../runtime/event-recorder.ts";
import { changeSpec, claimOf, reasonIs, relocation, settle } from "./testing/course.ts";
import { Crash, phaseIs, play, restoreIn } from "./testing/run.ts";
import { OWN, TENANT, World } from "./testing/world.ts";

// After cutover the machine may be on trial: within it, and only within it, there is a way back to the media agent.

const trial = (how: object) => relocation({ trial: how });

async function onTrial(how: object = { period: "1h" }): Promise<World> {
  const world = new World();
  world.restore(trial(how));
  await play(world, phaseIs("OnTrial"));
  return world;
}

/** The machine runs from the agent, which takes its writes; nothing is copied. */
function expectOnAgent(world: World): void {
  expect(claimOf(world)).toBe("orders-db-root-restoring");
  expect(world.cluster.all(INSTANCES)).toHaveLength(1);
  expect(world.sealed).toBe(false);
  expect(world.cluster.all(STATEFUL_SETS)).toHaveLength(1);
  expect(world.cluster.all(JOBS)).toEqual([]);
  expect(world.cluster.all(VOLUMES).map(({ spec }) => spec?.nfs?.path)).toEqual([world.exportPath]);
  expect(world.faults).toEqual([]);
}

test("a machine on trial runs from its target while the agent is kept, sealed; then the agent goes", async () => {
  const world = await onTrial();
  // The first that is told of it says until when already.
  const first = restoreIn(world)?.status;
  expect(first?.message).toMatch(/^The machine is on trial on its target until 20/);
  expect(first?.rollBackUntil).toBeDefined();
  const restore = await settle(world);
  expect(restore?.status?.phase).toBe("OnTrial");
  expect(restore?.status?.message).toMatch(
    /on trial on its target until .* Going back loses what the machine wrote since 20/,
  );
  expect(claimOf(world)).toBe("orders-db-root");
  expect(world.sealed).toBe(true);
  expect(world.told).not.toContain("unpin");
  expect(world.cluster.peek(CLAIMS, OWN, `vmr-${restore?.metadata.uid}-overlay`)).toBeDefined();
  await world.clock.advance(3600_000);
  const over = await play(world, phaseIs("Completed"));
  expect(conditionOf(over?.status?.conditions, "Committed")).toMatchObject({ status: "True", reason: "TrialOver" });
  expect(over?.status?.rollBackUntil).toBeUndefined();
  expect(world.cluster.all(STATEFUL_SETS)).toEqual([]);
});

test("a machine on trial is committed at once when people say so", async () => {
  const world = await onTrial({ onExpiry: "Commit", period: "1000h" });
  changeSpec(world, trial({ period: "1000h", decision: "Commit" }));
  await play(world, phaseIs("Completed"));
  expect(claimOf(world)).toBe("orders-db-root");
});

test("a machine that is taken back runs from the agent again, through new exports, and is not cut over anew by itself", async () => {
  const world = await onTrial();
  const uid = world.cluster.peek(CLAIMS, TENANT, "orders-db-root")?.metadata.uid;
  changeSpec(world, trial({ period: "1h", decision: "RollBack" }));
  await play(world, phaseIs("RollingBack"));
  await play(world, reasonIs("RolledBack", "RolledBack"));
  const restore = await settle(world, 30);
  expect(restore?.status?.phase).toBe("Running");
  expectOnAgent(world);
  expect(conditionOf(restore?.status?.conditions, "RolledBack")?.message).toMatch(
    /wrote on its target since 20\S+ is lost to it; claim orders-db-root keeps that/,
  );
  expect(restore?.status?.message).toMatch(/remove spec\.relocation\.trial\.decision/);
  // What it wrote on its target is still there to be looked at.
  expect(world.cluster.peek(CLAIMS, TENANT, "orders-db-root")?.metadata.uid).toBe(uid);
  // Relocated anew, from the first byte on.
  expect(world.progress?.cursor).toBe(0);
  changeSpec(world, trial({ period: "1s" }));
  await play(world, reasonIs("RolledBack", "RelocatedAnew"));
  await play(world, phaseIs("Completed"));
  expect(claimOf(world)).toBe("orders-db-root");
});

test("a trial may end by going back", async () => {
  const world = await onTrial({ period: "1h", onExpiry: "RollBack" });
  await world.clock.advance(3600_000);
  await play(world, reasonIs("RolledBack", "RolledBack"));
  const restore = await settle(world, 30);
  expectOnAgent(world);
  expect(restore?.status?.message).toMatch(/set spec\.relocation\.trial\.onExpiry to Commit or Wait/);
});

test("a guest that does not come up on its target can be taken back before its time is over", async () => {
  const world = new World();
  world.restore(trial({ period: "1h" }));
  await play(world, reasonIs("CutOver", "FinalPass"));
  world.guestReady = false;
  await play(world, reasonIs("CutOver", "Starting"));
  changeSpec(world, trial({ period: "1h", decision: "RollBack" }));
  await play(world, reasonIs("RolledBack", "RolledBack"));
  await settle(world);
  expectOnAgent(world);
});

test("a guest that never came up on its target is not committed by time", async () => {
  const world = new World();
  world.restore({ ...trial({ period: "1s" }), launch: { guestReady: { timeout: "5s" } } });
  await play(world, reasonIs("CutOver", "FinalPass"));
  world.guestReady = false;
  const waiting = await play(world, reasonIs("Committed", "AwaitingDecision"));
  await settle(world);
  expect(world.cluster.all(STATEFUL_SETS)).toHaveLength(1);
  expect(waiting?.status?.phase).toBe("OnTrial");
  world.guestReady = true;
  await play(world, phaseIs("Completed"));
});

test("a target that returns other bytes is gone back from: the machine stands still for no longer than people want", async () => {
  const world = new World();
  world.verifyFails = true;
  world.restore();
  await play(world, phaseIs("Failed"));
  expect(world.cluster.all(INSTANCES)).toEqual([]);
  changeSpec(world, trial({ decision: "RollBack" }));
  await play(world, reasonIs("RolledBack", "RolledBack"));
  const restore = await settle(world);
  expectOnAgent(world);
  expect(restore?.status?.phase).toBe("Running");
  expect(conditionOf(restore?.status?.conditions, "RolledBack")?.message).toMatch(/nothing is lost/);
});

test("an agent that does not answer holds a roll-back up, and the machine stays where it is meanwhile", async () => {
  const world = await onTrial();
  world.agentAnswers = false;
  changeSpec(world, trial({ period: "1h", decision: "RollBack" }));
  const held = await play(
    world,
    (restore) => restore?.status?.message?.includes("does not serve at the moment") === true,
  );
  expect(held?.status?.phase).toBe("OnTrial");
  await settle(world);
  expect(world.cluster.all(INSTANCES)).toHaveLength(1);
  expect(claimOf(world)).toBe("orders-db-root");
  world.agentAnswers = true;
  await play(world, reasonIs("RolledBack", "RolledBack"));
});

test("without its overlay there is no way back: the machine stays on its target, and the rest of the agent goes", async () => {
  const world = await onTrial();
  world.cluster.erase(CLAIMS, OWN, `vmr-${restoreIn(world)?.metadata.uid}-overlay`);
  changeSpec(world, trial({ period: "1h", decision: "RollBack" }));
  const over = await play(world, phaseIs("Completed"));
  expect(conditionOf(over?.status?.conditions, "Committed")?.reason).toBe("NoWayBack");
  expect(claimOf(world)).toBe("orders-db-root");
  expect(world.cluster.all(INSTANCES)).toHaveLength(1);
});

test("what was committed is not taken back, however late people change their mind", async () => {
  const world = new World();
  world.restore(trial({ period: "1s" }));
  await play(world, (restore) => conditionOf(restore?.status?.conditions, "Committed")?.status === "True");
  changeSpec(world, trial({ period: "1h", decision: "RollBack" }));
  await play(world, phaseIs("Completed"));
  expect(claimOf(world)).toBe("orders-db-root");
});

test("a plan that somebody deleted during the trial is no sign that everything is over", async () => {
  const world = await onTrial();
  world.cluster.erase(SECRETS, OWN, `vmr-${restoreIn(world)?.metadata.uid}-plan`);
  await play(world, reasonIs("AgentReady", "PlanLost"));
  await settle(world);
  expect(world.cluster.all(STATEFUL_SETS)).toHaveLength(1);
});

test("deleting a restore on trial commits it; deleting one that is being taken back keeps the agent", async () => {
  const committed = await onTrial();
  committed.cluster.erase(VM_RESTORES, TENANT, "orders-db");
  await play(committed, (restore) => restore === undefined);
  expect(claimOf(committed)).toBe("orders-db-root");
  expect(committed.cluster.all(STATEFUL_SETS)).toEqual([]);

  const world = await onTrial();
  changeSpec(world, trial({ period: "1h", decision: "RollBack" }));
  await play(world, phaseIs("RollingBack"));
  world.cluster.erase(VM_RESTORES, TENANT, "orders-db");
  await play(world, reasonIs("TornDown", "MachineDependsOnAgent"));
  await settle(world);
  expect(claimOf(world)).toBe("orders-db-root-restoring");
  expect(world.cluster.all(STATEFUL_SETS)).toHaveLength(1);
});

/** Goes back and stays there; the operator dies once, at the nth write of that. */
async function rolledBack(n: number, when: "before" | "after") {
  const world = await onTrial();
  let writes = 0;
  const count = (moment: "before" | "after"): void => {
    if (moment === when && ++writes === n) throw new Crash();
  };
  world.cluster.onWrite = (write, moment) => {
    if (write.type !== EVENTS) count(moment);
  };
  world.onTell = (_, moment) => count(moment);
  changeSpec(world, trial({ period: "1h", decision: "RollBack" }));
  await play(world, reasonIs("RolledBack", "RolledBack"));
  await settle(world, 5);
  expectOnAgent(world);
  const machine = world.cluster.peek(VIRTUAL_MACHINES, TENANT, "orders-db");
  const conditions = restoreIn(world)?.status?.conditions?.map(
    ({ type, status, reason }) => `${type}=${status} ${reason}`,
  );
  return {
    writes,
    state: {
      keys: world.cluster
        .keys()
        .flatMap((key) => (key.startsWith("Event/") ? [] : key.replace(/[0-9a-f]{8}-[0-9a-f-]{27}/, "UID"))),
      annotations: Object.keys(machine?.metadata.annotations ?? {}),
      runStrategy: machine?.spec?.runStrategy,
      phase: restoreIn(world)?.status?.phase,
      conditions: conditions?.sort(),
    },
  };
}

test("an operator that dies before or after any write of a roll-back is followed by one that comes to the same end", async () => {
  const undisturbed = await rolledBack(0, "after");
  expect(undisturbed.writes).toBeGreaterThan(8);
  for (let n = 1; n <= undisturbed.writes; n++) {
    for (const when of ["before", "after"] as const) {
      expect({ n, when, ...(await rolledBack(n, when)).state }).toEqual({ n, when, ...undisturbed.state });
    }
  }
}, 180_000);

test("a target that is renamed in the spec during the trial is still where the machine is taken back from", async () => {
  const world = await onTrial();
  const perDisk = [{ name: "root", claimName: "another" }];
  const renamed = (how: object) => ({
    relocation: { ...trial(how).relocation, target: { storageClassName: "fast", perDisk } },
  });
  changeSpec(world, renamed({ period: "1h" }));
  await settle(world);
  changeSpec(world, renamed({ period: "1h", decision: "RollBack" }));
  await play(world, reasonIs("RolledBack", "RolledBack"));
  await settle(world);
  expectOnAgent(world);
  changeSpec(world, renamed({ period: "1s" }));
  await play(world, phaseIs("Completed"));
  expect(claimOf(world)).toBe("another");
});

test("a cutover under way is brought to its end though people say once more that the machine is to be held back", async () => {
  const world = new World();
  world.restore(trial({ period: "1s", onExpiry: "RollBack" }));
  await play(world, reasonIs("Relocated", "RolledBack"));
  changeSpec(world, trial({ period: "1h", onExpiry: "RollBack", decision: "Commit" }));
  await play(world, reasonIs("CutOver", "FinalPass"));
  changeSpec(world, trial({ period: "1h", onExpiry: "RollBack" }));
  await play(world, (restore) => {
    // What happened to it before is not what it waits for.
    if (phaseIs("CuttingOver")(restore)) expect(restore?.status?.message).not.toMatch(/taken back|from the beginning/);
    return phaseIs("OnTrial")(restore);
  });
  expect(world.cluster.all(INSTANCES)).toHaveLength(1);
});

test("a machine that is to go back anyway is not moved: neither halted nor migrated, and nothing is lost", async () => {
  const world = new World();
  world.restore(trial({ period: "1h", decision: "RollBack" }));
  const restore = await play(world, reasonIs("Relocated", "RollBackDecided"));
  expect(restore?.status?.phase).toBe("Running");
  expect(restore?.status?.message).toMatch(/remove spec\.relocation\.trial\.decision/);
  const uid = world.cluster.all(INSTANCES)[0]?.metadata.uid;
  await settle(world);
  expect(world.cluster.all(INSTANCES)[0]?.metadata.uid).toBe(uid);
  expect(claimOf(world)).toBe("orders-db-root-restoring");
  changeSpec(world, trial({ period: "1s" }));
  await play(world, phaseIs("Completed"));
});

test("an overlay that is lost on the way back leaves the machine on its target, and running", async () => {
  const world = await onTrial();
  changeSpec(world, trial({ period: "1h", decision: "RollBack" }));
  await play(world, phaseIs("RollingBack"));
  world.cluster.erase(CLAIMS, OWN, `vmr-${restoreIn(world)?.metadata.uid}-overlay`);
  const over = await play(world, phaseIs("Completed"));
  expect(conditionOf(over?.status?.conditions, "Committed")?.reason).toBe("NoWayBack");
  expect(claimOf(world)).toBe("orders-db-root");
  expect(world.cluster.all(INSTANCES)).toHaveLength(1);
  expect(world.cluster.peek(VIRTUAL_MACHINES, TENANT, "orders-db")?.spec?.runStrategy).toBe("Always");
});

test("nothing goes back to an overlay that somebody deleted, though its pod still holds it", async () => {
  const world = await onTrial();
  const overlay = `vmr-${restoreIn(world)?.metadata.uid}-overlay`;
  world.cluster.change(CLAIMS, OWN, overlay, (claim) => {
    claim.metadata.finalizers = ["kubernetes.io/pvc-protection"];
  });
  world.cluster.erase(CLAIMS, OWN, overlay);
  changeSpec(world, trial({ period: "1h", decision: "RollBack" }));
  await play(world, (restore) => reasonIs("Committed", "NoWayBack")(restore));
  await settle(world);
  expect(claimOf(world)).toBe("orders-db-root");
  expect(world.cluster.all(INSTANCES)).toHaveLength(1);
});
