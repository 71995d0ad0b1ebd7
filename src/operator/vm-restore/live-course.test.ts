import { expect, test } from "@jest/globals";
import type { VMRestore } from "../../api/vm-restore.ts";
import { conditionOf } from "../conditions.ts";
import {
  CLAIMS,
  INSTANCES,
  JOBS,
  MIGRATIONS,
  NODES,
  PODS,
  STATEFUL_SETS,
  VIRTUAL_MACHINES,
  VM_RESTORES,
} from "../kinds.ts";
import { EVENTS } from "../runtime/event-recorder.ts";
import { INSTANCE_FINALIZER, LIVE_ANNOTATIONS } from "./live-state.ts";
import { changeSpec, claimOf, listen, reasonIs, SENTENCE, settle } from "./testing/course.ts";
import { Crash, phaseIs, play, restoreIn } from "./testing/run.ts";
import { TENANT, World } from "./testing/world.ts";

const NAME = "orders-db";
const TARGET = "orders-db-root";
const SERVED = "orders-db-root-restoring";

/** A cluster in which machines can be migrated, and a restore in it. */
function liveWorld(relocation: object = {}, spec: object = {}): World {
  const world = new World();
  world.volumeMigrations.install();
  world.restore({ relocation: { target: { storageClassName: "fast" }, ...relocation }, ...spec });
  return world;
}

const machineOf = (world: World) => world.cluster.peek(VIRTUAL_MACHINES, TENANT, NAME);
const instanceOf = (world: World) => world.cluster.peek(INSTANCES, TENANT, NAME);
const relocatedSays = (restore: VMRestore | undefined) =>
  conditionOf(restore?.status?.conditions, "Relocated")?.message ?? "";

function pointAt(world: World, claimName: string): void {
  world.cluster.change(VIRTUAL_MACHINES, TENANT, NAME, (machine) => {
    const volumes = [{ name: "root", persistentVolumeClaim: { claimName } }];
    machine.spec = { ...machine.spec, template: { ...machine.spec?.template, spec: { volumes } } };
  });
}

/** A world in which KubeVirt copies, and goes on doing so until it is let. */
async function migrating(relocation: object = {}, spec: object = {}): Promise<World> {
  const world = liveWorld(relocation, spec);
  world.volumeMigrations.stalls = true;
  await play(world, () => world.cluster.all(MIGRATIONS).some(({ status }) => status?.phase === "Running"));
  return world;
}

/** Nothing of a live migration is left on machine and instance. */
function expectNoTrace(world: World): void {
  expect(Object.keys(machineOf(world)?.metadata.annotations ?? {}).filter((key) => key.includes("live"))).toEqual([]);
  expect(machineOf(world)?.spec?.updateVolumesStrategy).toBeUndefined();
  expect(instanceOf(world)?.metadata.finalizers ?? []).not.toContain(INSTANCE_FINALIZER);
}

test("Auto migrates the running machine where it can: no Job, no restart, and the agent goes at the end", async () => {
  const world = liveWorld();
  await play(world, () => instanceOf(world) !== undefined);
  const uid = instanceOf(world)?.metadata.uid;
  const restore = await play(world, phaseIs("Completed"));
  expect(restore?.status).toMatchObject({ strategy: "LiveMigration", relocation: { percent: 100 } });
  expect(restore?.status?.strategyReason).toMatch(/^Auto chose LiveMigration: /);
  expect(restore?.status?.cutoverDowntime).toBeUndefined();
  expect(instanceOf(world)?.metadata.uid).toBe(uid);
  expect(claimOf(world)).toBe(TARGET);
  expectNoTrace(world);
  expect(world.cluster.writes.some(({ type, name }) => type === JOBS && name.endsWith("-copy"))).toBe(false);
  expect(world.told).not.toContain("seal");
  expect(world.cluster.all(STATEFUL_SETS)).toEqual([]);
  expect(world.cluster.peek(CLAIMS, TENANT, SERVED)).toBeUndefined();
  // The source's launcher has ended, and would keep the claim.
  expect(world.cluster.peek(PODS, TENANT, "virt-launcher-orders-db")).toBeUndefined();
  expect(world.cluster.all(PODS).some(({ status }) => status?.phase === "Running")).toBe(true);
});

test("all disks move at once", async () => {
  const world = liveWorld();
  world.backUp("root", "data");
  await play(world, phaseIs("Completed"));
  const claims = machineOf(world)?.spec?.template?.spec?.volumes?.map(
    ({ persistentVolumeClaim: claim }) => claim?.claimName,
  );
  expect(claims).toEqual([TARGET, "orders-db-data"]);
  expect(world.volumeMigrations.attempts).toBe(1);
});

test("no number is told of a live migration whose reads were not told from the guest's yet", async () => {
  const world = await migrating();
  const { relocation, disks, message } = (await settle(world, 3))?.status ?? {};
  expect(relocation).toBeUndefined();
  expect(disks?.map(({ bytesRead }) => bytesRead)).toEqual([undefined]);
  expect(message).toBe("KubeVirt copies 64.0 MiB to the target; how far it has come is not known yet.");
});

test("at every step the status says in words what is waited for, and counts what was read", async () => {
  const world = liveWorld();
  const said = listen(world);
  world.volumeMigrations.stalls = true;
  world.volumeMigrations.failures = ["the target ran out of space"];
  world.copiedUntil = 16 * 2 ** 20;
  const restore = await play(world, (seen) =>
    /16\.0 MiB.*Attempt 1 failed: the target ran out of space\./.test(relocatedSays(seen)),
  );
  expect(restore?.status?.relocation).toEqual({ percent: 25 });
  expect(restore?.status?.disks?.[0]).toMatchObject({ bytesRead: 16 * 2 ** 20, bytesTotal: 64 * 2 ** 20 });
  expect(restore?.status?.disks?.[0]?.bytesRelocated).toBeUndefined();
  world.volumeMigrations.stalls = false;
  await play(world, phaseIs("Completed"));
  for (const line of said) expect(line).toMatch(SENTENCE);
});

test("a live migration's rate is measured, with an estimate, and is told no longer than it is so", async () => {
  const world = await migrating();
  let eachSecond = 2 ** 20;
  const step = world.step.bind(world);
  world.step = () => {
    world.copiedUntil += eachSecond;
    step();
  };
  const first = await play(world, (restore) => restore?.status?.relocation !== undefined);
  expect(first?.status?.relocation?.bytesPerSecond).toBeUndefined();
  const { percent = 0, bytesPerSecond, estimatedEnd = "" } = (await settle(world, 12))?.status?.relocation ?? {};
  expect(bytesPerSecond).toBe(eachSecond);
  const left = Date.parse(estimatedEnd) - world.clock.now();
  expect(Math.abs(left / 1000 - 64 * (1 - percent / 100))).toBeLessThan(4);
  world.agentAnswers = false;
  expect((await settle(world, 3))?.status?.relocation).toEqual({ percent });
  world.agentAnswers = true;
  expect((await settle(world, 6))?.status?.relocation?.bytesPerSecond).toBe(eachSecond);
  eachSecond = 0;
  const stopped = (await settle(world, 15))?.status?.relocation;
  expect(stopped?.percent).toBeGreaterThan(percent);
  expect(Object.keys(stopped ?? {})).toEqual(["percent"]);
});

test.each([
  ["no second node", (world: World) => world.cluster.erase(NODES, undefined, "node-2"), "NoOtherNode"],
  [
    "a second node that takes no machines",
    (world: World) =>
      world.cluster.change(NODES, undefined, "node-2", (node) => {
        node.spec = { unschedulable: true };
      }),
    "NoOtherNode",
  ],
  [
    "no method",
    (world: World) => world.volumeMigrations.install({ workloadUpdateMethods: ["Evict"] }),
    "WorkloadUpdateMethod",
  ],
  [
    "an update of KubeVirt",
    (world: World) => world.volumeMigrations.install({ phase: "Deploying" }),
    "KubeVirtNotDeployed",
  ],
  [
    "another rollout strategy",
    (world: World) => world.volumeMigrations.install({ configuration: { vmRolloutStrategy: "Stage" } }),
    "RolloutStrategy",
  ],
  ["an old KubeVirt", (world: World) => world.volumeMigrations.install({ version: "v1.5.2" }), "RolloutStrategy"],
  [
    "post-copy",
    (world: World) => world.volumeMigrations.install({ configuration: { migrations: { allowPostCopy: true } } }),
    "PostCopy",
  ],
])("%s: Auto copies and says why, LiveMigration waits and goes on when it is mended", async (_, spoil, reason) => {
  const auto = liveWorld();
  spoil(auto);
  const restore = await play(auto, reasonIs("CutOver", "AwaitingApproval"));
  expect(restore?.status?.strategy).toBe("Copy");
  expect(restore?.status?.strategyReason).toMatch(/^Auto chose Copy: .*The machine restarts once at cutover\.$/);
  expect(conditionOf(restore?.status?.conditions, "LiveMigrationPossible")).toMatchObject({ status: "False", reason });

  const asked = liveWorld({ strategy: "LiveMigration" });
  spoil(asked);
  const waiting = await play(asked, reasonIs("Relocated", "LiveMigrationNotPossible"));
  expect(relocatedSays(waiting)).toMatch(/It begins when that is mended; or set spec.relocation.strategy to Copy/);
  await settle(asked);
  expect(asked.cluster.peek(CLAIMS, TENANT, TARGET)).toBeUndefined();
  asked.volumeMigrations.install();
  const done = await play(asked, phaseIs("Completed"));
  expect(done?.status?.strategy).toBe("LiveMigration");
});

test("Auto copies where the repository or the network is too slow for KubeVirt's limit, and where a limit was asked for", async () => {
  const slow = liveWorld();
  slow.repositoryRate = 10_000;
  const restore = await play(slow, reasonIs("CutOver", "AwaitingApproval"));
  expect(restore?.status?.strategyReason).toMatch(
    /measured from the repository take longer than the 150 s after which KubeVirt gives up/,
  );
  const narrow = liveWorld();
  narrow.volumeMigrations.install({ configuration: { migrations: { bandwidthPerMigration: "100Ki" } } });
  const second = await play(narrow, reasonIs("CutOver", "AwaitingApproval"));
  expect(second?.status?.strategyReason).toMatch(/that KubeVirt allows take longer/);
  const limited = liveWorld({ bandwidthLimit: "10Mi" });
  const third = await play(limited, reasonIs("CutOver", "AwaitingApproval"));
  expect(third?.status?.strategyReason).toMatch(/bandwidthLimit cannot be kept/);
});

test("after two attempts that failed Auto takes the machine back and copies, and says why", async () => {
  const world = liveWorld();
  world.volumeMigrations.failures = ["first reason", "second reason", "third reason"];
  const restore = await play(world, reasonIs("CutOver", "AwaitingApproval"));
  expect(world.volumeMigrations.attempts).toBeLessThanOrEqual(3);
  expect(claimOf(world)).toBe(SERVED);
  expect(restore?.status?.strategyReason).toMatch(
    /2 attempts at live migration failed, the last because: second reason/,
  );
  expect(instanceOf(world)?.metadata.finalizers ?? []).not.toContain(INSTANCE_FINALIZER);
  changeSpec(world, { relocation: { target: { storageClassName: "fast" }, cutover: { when: "Automatic" } } });
  await play(world, phaseIs("Completed"));
  expect(claimOf(world)).toBe(TARGET);
});

test("a migration that was asked for is tried again and again", async () => {
  const world = liveWorld({ strategy: "LiveMigration" });
  world.volumeMigrations.failures = ["a", "b", "c", "d"];
  await play(world, phaseIs("Completed"));
  expect(world.volumeMigrations.attempts).toBe(5);
});

test("what KubeVirt refuses is taken back at once; it is tried again when the mark is removed", async () => {
  const world = liveWorld({ strategy: "LiveMigration" });
  world.volumeMigrations.refusal = "cannot migrate the VM. The volume data is RWO";
  const restore = await play(world, reasonIs("Relocated", "LiveMigrationGivenUp"));
  expect(relocatedSays(restore)).toMatch(/The volume data is RWO/);
  expect(claimOf(world)).toBe(SERVED);
  world.volumeMigrations.refusal = undefined;
  world.cluster.change(VIRTUAL_MACHINES, TENANT, NAME, (machine) => {
    delete machine.metadata.annotations?.[LIVE_ANNOTATIONS.givenUp];
    machine.status = { conditions: [] };
  });
  await play(world, phaseIs("Completed"));
});

test.each([
  ["a live mount", { strategy: "None" }, "None"],
  ["a copy", { strategy: "Copy", target: { storageClassName: "fast" } }, "Copy"],
])("a migration under way is called off for %s, and the machine runs on", async (_, relocation, strategy) => {
  const world = await migrating();
  const uid = instanceOf(world)?.metadata.uid;
  changeSpec(world, { relocation });
  await play(world, (restore) => claimOf(world) === SERVED && restore?.status?.strategy === strategy);
  await settle(world);
  expectNoTrace(world);
  expect(instanceOf(world)?.metadata.uid).toBe(uid);
  expect(instanceOf(world)?.spec?.volumes).toEqual([{ name: "root", persistentVolumeClaim: { claimName: SERVED } }]);
  expect(world.cluster.all(STATEFUL_SETS)).toHaveLength(1);
  if (strategy === "None") expect(world.cluster.peek(CLAIMS, TENANT, TARGET)).toBeUndefined();
});

test("a migration that is paused is called off, and begins anew afterwards", async () => {
  const world = await migrating();
  const relocation = { target: { storageClassName: "fast" } };
  changeSpec(world, { relocation: { ...relocation, paused: true } });
  await play(world, reasonIs("Relocated", "Paused"));
  expect(claimOf(world)).toBe(SERVED);
  expectNoTrace(world);
  world.volumeMigrations.stalls = false;
  changeSpec(world, { relocation });
  await play(world, phaseIs("Completed"));
  expect(claimOf(world)).toBe(TARGET);
});

test("a machine that was migrated is on trial on its target, and can be taken back", async () => {
  const trial = { period: "1m" };
  const kept = liveWorld({ trial });
  await play(kept, phaseIs("OnTrial"));
  expect(kept.cluster.all(STATEFUL_SETS)).toHaveLength(1);
  await play(kept, phaseIs("Completed"));
  expect(claimOf(kept)).toBe(TARGET);
  const back = liveWorld({ trial });
  await play(back, phaseIs("OnTrial"));
  changeSpec(back, { relocation: { target: { storageClassName: "fast" }, trial: { ...trial, decision: "RollBack" } } });
  const restore = await play(back, reasonIs("Relocated", "RolledBack"));
  expect(claimOf(back)).toBe(SERVED);
  expect(restore?.status?.relocation).toBeUndefined();
  expect(instanceOf(back)?.status?.phase).toBe("Running");
  expect(back.cluster.all(STATEFUL_SETS)).toHaveLength(1);
});

test("a copy that was begun is given up where live migration is asked for", async () => {
  const world = liveWorld({ strategy: "Copy" });
  await play(world, reasonIs("CutOver", "AwaitingApproval"));
  changeSpec(world, { relocation: { strategy: "LiveMigration", target: { storageClassName: "fast" } } });
  const restore = await play(world, phaseIs("Completed"));
  expect(restore?.status?.strategy).toBe("LiveMigration");
  expect(world.cluster.all(JOBS)).toEqual([]);
});

test("called off too late: the machine has arrived, and stays where it is", async () => {
  const world = await migrating();
  world.volumeMigrations.stalls = false;
  world.step();
  expect(instanceOf(world)?.status?.migrationState?.targetNodeDomainReadyTimestamp).toBeDefined();
  changeSpec(world, { relocation: { strategy: "None" } });
  await play(world, phaseIs("Completed"));
  expect(claimOf(world)).toBe(TARGET);
  expectNoTrace(world);
});

test("volumes that somebody set back call the migration off, and Auto copies", async () => {
  const world = await migrating();
  pointAt(world, SERVED);
  const restore = await play(world, reasonIs("CutOver", "AwaitingApproval"));
  expect(restore?.status?.strategyReason).toMatch(/somebody set the machine's volumes back/);
  expect(claimOf(world)).toBe(SERVED);
});

test("volumes that somebody pointed elsewhere are left to people", async () => {
  const world = await migrating();
  pointAt(world, "elsewhere");
  const restore = await play(world, reasonIs("Relocated", "VolumesChanged"));
  expect(relocatedSays(restore)).toMatch(/Set them to orders-db-root\./);
  await settle(world);
  expect(claimOf(world)).toBe("elsewhere");
  expect(world.cluster.all(STATEFUL_SETS)).toHaveLength(1);
  changeSpec(world, { relocation: { strategy: "None" } });
  await play(world, (seen) => relocatedSays(seen).includes(`Set them to ${SERVED}.`));
  const writes = world.cluster.writes.length;
  await settle(world);
  expect(world.cluster.writes.slice(writes).filter(({ type }) => type === VIRTUAL_MACHINES)).toEqual([]);
  pointAt(world, SERVED);
  await play(world, (seen) => seen?.status?.strategy === "None");
});

test("a target that is renamed in the spec meanwhile is no other target for a migration under way", async () => {
  const world = await migrating();
  const perDisk = [{ name: "root", claimName: "renamed" }];
  changeSpec(world, { relocation: { target: { storageClassName: "fast", perDisk } } });
  await settle(world);
  world.volumeMigrations.stalls = false;
  await play(world, phaseIs("Completed"));
  expect(claimOf(world)).toBe(TARGET);
  expectNoTrace(world);
});

test("a machine that is stopped meanwhile is taken back to the agent, and migrated when it runs again", async () => {
  const world = await migrating();
  world.cluster.change(VIRTUAL_MACHINES, TENANT, NAME, (machine) => {
    machine.spec = { ...machine.spec, runStrategy: "Halted" };
  });
  await play(world, () => claimOf(world) === SERVED);
  await settle(world);
  expect(instanceOf(world)).toBeUndefined();
  expectNoTrace(world);
  expect(machineOf(world)?.status?.conditions ?? []).toEqual([]);
  expect(world.cluster.all(STATEFUL_SETS)).toHaveLength(1);
});

test("an instance that is deleted meanwhile comes back on the agent, and is migrated anew", async () => {
  const world = await migrating();
  const uid = instanceOf(world)?.metadata.uid;
  world.cluster.erase(INSTANCES, TENANT, NAME);
  world.volumeMigrations.stalls = false;
  await play(world, phaseIs("Completed"));
  expect(instanceOf(world)?.metadata.uid).not.toBe(uid);
  expect(claimOf(world)).toBe(TARGET);
});

test("a migration that failed when the guest had arrived is no failure: what it writes is on the target", async () => {
  const world = await migrating();
  world.volumeMigrations.losesSource = true;
  world.volumeMigrations.stalls = false;
  const restore = await play(world, phaseIs("Completed"));
  expect(claimOf(world)).toBe(TARGET);
  expect(restore?.status?.strategy).toBe("LiveMigration");
  expectNoTrace(world);
});

test("how it ended was not seen: nothing is changed, and people are told how to say it", async () => {
  for (const hasArrived of [true, false]) {
    const world = await migrating();
    world.cluster.change(INSTANCES, TENANT, NAME, (instance) => {
      instance.metadata.finalizers = [];
    });
    world.cluster.erase(INSTANCES, TENANT, NAME);
    world.step();
    const failed = await play(world, phaseIs("Failed"));
    expect(failed?.status?.message).toMatch(/kubectl annotate virtualmachine orders-db --namespace default/);
    await settle(world);
    expect(claimOf(world)).toBe(TARGET);
    expect(world.cluster.all(STATEFUL_SETS)).toHaveLength(1);
    world.volumeMigrations.stalls = false;
    if (hasArrived)
      world.cluster.change(VIRTUAL_MACHINES, TENANT, NAME, (machine) => {
        machine.metadata.annotations = { ...machine.metadata.annotations, [LIVE_ANNOTATIONS.arrived]: "yes" };
      });
    else pointAt(world, SERVED);
    await play(world, phaseIs("Completed"));
    expect(claimOf(world)).toBe(TARGET);
    expect(world.volumeMigrations.attempts).toBe(hasArrived ? 1 : 2);
    expectNoTrace(world);
  }
});

test("a target claim that is deleted meanwhile is not migrated to", async () => {
  const world = await migrating();
  world.cluster.change(CLAIMS, TENANT, TARGET, (claim) => {
    claim.metadata.finalizers = ["kubernetes.io/pvc-protection"];
  });
  world.cluster.erase(CLAIMS, TENANT, TARGET);
  await play(world, () => claimOf(world) === SERVED);
  world.cluster.change(CLAIMS, TENANT, TARGET, (claim) => {
    claim.metadata.finalizers = [];
  });
  world.cluster.erase(CLAIMS, TENANT, TARGET);
  world.volumeMigrations.stalls = false;
  await play(world, phaseIs("Completed"));
  expect(world.cluster.peek(CLAIMS, TENANT, TARGET)?.metadata.deletionTimestamp).toBeUndefined();
});

test("a VMRestore that is deleted meanwhile calls it off, and keeps the agent for as long as the machine needs it", async () => {
  const world = await migrating();
  world.cluster.erase(VM_RESTORES, TENANT, NAME);
  await play(world, reasonIs("TornDown", "MachineDependsOnAgent"));
  expect(claimOf(world)).toBe(SERVED);
  expectNoTrace(world);
  expect(world.cluster.peek(CLAIMS, TENANT, TARGET)).toBeUndefined();
  world.cluster.erase(VIRTUAL_MACHINES, TENANT, NAME);
  await play(world, (restore) => restore === undefined);
  expect(world.cluster.all(STATEFUL_SETS)).toEqual([]);
});

test("a machine that is deleted or discarded meanwhile goes, instance and all", async () => {
  const world = await migrating({}, { deletionPolicy: "Discard" });
  world.cluster.erase(VM_RESTORES, TENANT, NAME);
  await play(world, (restore) => restore === undefined);
  expect(machineOf(world)).toBeUndefined();
  expect(instanceOf(world)).toBeUndefined();
  const second = await migrating();
  second.cluster.erase(VIRTUAL_MACHINES, TENANT, NAME);
  await play(second, phaseIs("Failed"));
  expect(instanceOf(second)).toBeUndefined();
  expect(second.cluster.all(STATEFUL_SETS)).toHaveLength(1);
});

test("a machine that is deleted when it has just arrived leaves its target, which holds what it wrote", async () => {
  const world = await migrating();
  world.volumeMigrations.stalls = false;
  world.step();
  world.cluster.change(VIRTUAL_MACHINES, TENANT, NAME, (machine) => {
    machine.metadata.finalizers = ["kubevirt.io/virtualMachineControllerFinalize"];
  });
  world.cluster.erase(VIRTUAL_MACHINES, TENANT, NAME);
  world.cluster.erase(INSTANCES, TENANT, NAME);
  await play(world, () => instanceOf(world) === undefined);
  world.cluster.change(VIRTUAL_MACHINES, TENANT, NAME, (machine) => {
    machine.metadata.finalizers = [];
  });
  world.cluster.erase(VIRTUAL_MACHINES, TENANT, NAME);
  await play(world, phaseIs("Completed"));
  expect(world.cluster.peek(CLAIMS, TENANT, TARGET)).toBeDefined();
  expect(world.cluster.all(STATEFUL_SETS)).toEqual([]);
});

test("a machine that is migrated for other reasons meanwhile has not arrived at its target", async () => {
  const world = await migrating();
  world.cluster.change(INSTANCES, TENANT, NAME, (instance) => {
    const migrationState = {
      migrationUid: "evacuation",
      targetPod: "virt-launcher-orders-db",
      targetNodeDomainReadyTimestamp: "2026-01-01T00:00:00Z",
    };
    instance.status = { ...instance.status, migrationState };
  });
  await settle(world);
  expect(machineOf(world)?.metadata.annotations?.[LIVE_ANNOTATIONS.arrived]).toBeUndefined();
  expect(world.cluster.all(PODS).length).toBeGreaterThan(1);
  expect(restoreIn(world)?.status?.phase).toBe("Relocating");
});

const UID = /[0-9a-f]{8}-[0-9a-f-]{27}/g;

function endState(world: World) {
  const status = restoreIn(world)?.status;
  const keys = world.cluster.keys().filter((key) => !/^(Event|Pod|VirtualMachineInstanceMigration)\//.test(key));
  return {
    keys: keys.map((key) => key.replace(UID, "UID")),
    machine: JSON.parse(JSON.stringify(machineOf(world)?.spec).replace(UID, "UID")),
    annotations: Object.keys(machineOf(world)?.metadata.annotations ?? {}),
    finalizers: instanceOf(world)?.metadata.finalizers ?? [],
    phase: status?.phase,
    strategy: status?.strategy,
    conditions: status?.conditions?.map(({ type, status: value, reason }) => `${type}=${value} ${reason}`).sort(),
    percent: status?.relocation?.percent,
  };
}

/** Calls back before and after each write to the cluster or the agent; events are not counted, their recorder swallows errors. */
function onEach(world: World, call: (what: string, moment: "before" | "after") => void): void {
  world.cluster.onWrite = ({ type, name }, moment) => {
    if (type !== EVENTS) call(`${type.kind} ${name}`, moment);
  };
  world.onTell = call;
}

/** Dies once, before or after the nth write. */
function dieAt(world: World, wanted: number, when: "before" | "after"): void {
  let seen = 0;
  onEach(world, (_, moment) => {
    if (moment === when && ++seen === wanted) throw new Crash();
  });
}

test.each([
  ["that goes well", (_: World) => undefined],
  [
    "that is taken back after two failures, and then copied",
    (world: World) => {
      world.volumeMigrations.failures = ["one", "two"];
      changeSpec(world, { relocation: { target: { storageClassName: "fast" }, cutover: { when: "Automatic" } } });
    },
  ],
  [
    "whose source is lost when the guest has arrived",
    (world: World) => {
      world.volumeMigrations.losesSource = true;
    },
  ],
])(
  "an operator that dies before or after any write of a migration %s is followed by one that comes to the same end",
  async (_, prepare) => {
    const whole = async (watch: (world: World) => void) => {
      const world = liveWorld();
      prepare(world);
      watch(world);
      await play(world, phaseIs("Completed"), 400);
      return endState(world);
    };
    const writes: string[] = [];
    const state = await whole((world) =>
      onEach(world, (what, moment) => {
        if (moment === "after") writes.push(what);
      }),
    );
    // What comes before and after is another test's.
    const first = writes.indexOf(`PersistentVolumeClaim ${TARGET}`);
    const last = writes.lastIndexOf(`VirtualMachineInstance ${NAME}`) + 3;
    expect(last - first).toBeGreaterThan(10);
    for (let n = first; n <= last; n++) {
      for (const when of ["before", "after"] as const) {
        const end = await whole((world) => dieAt(world, n, when));
        expect({ n, when, ...end }).toEqual({ n, when, ...state });
      }
    }
  },
  120_000,
);

test("a machine that is to go back is not migrated: a migration under way is taken back, and none is begun", async () => {
  const world = await migrating();
  world.copiedUntil = 16 * 2 ** 20;
  await play(world, (restore) => restore?.status?.relocation?.percent === 25);
  const relocation = { target: { storageClassName: "fast" } };
  changeSpec(world, { relocation: { ...relocation, trial: { period: "1h", decision: "RollBack" } } });
  const restore = await play(world, reasonIs("Relocated", "RollBackDecided"));
  expect(restore?.status?.phase).toBe("Running");
  expect(claimOf(world)).toBe(SERVED);
  expectNoTrace(world);
  // What a migration that was taken back had read is no progress.
  expect(restore?.status?.relocation).toBeUndefined();
  world.volumeMigrations.stalls = false;
  await settle(world);
  expect(claimOf(world)).toBe(SERVED);
  changeSpec(world, { relocation });
  await play(world, phaseIs("Completed"));
});

test("a machine whose volumes people set back during its trial is on the agent again, and keeps it", async () => {
  const world = liveWorld({ trial: { period: "10s" } });
  await play(world, phaseIs("OnTrial"));
  pointAt(world, SERVED);
  world.cluster.change(VIRTUAL_MACHINES, TENANT, NAME, (machine) => {
    machine.spec = { ...machine.spec, runStrategy: "Halted" };
  });
  const restore = await play(world, reasonIs("Committed", "UsesAgent"));
  expect(restore?.status?.message).toMatch(/decision to RollBack/);
  await settle(world, 30);
  expect(world.cluster.all(STATEFUL_SETS)).toHaveLength(1);
  expect(world.cluster.peek(CLAIMS, TENANT, SERVED)).toBeDefined();
  const relocation = { target: { storageClassName: "fast" }, trial: { period: "10s", decision: "RollBack" } };
  changeSpec(world, { relocation });
  await play(world, reasonIs("RolledBack", "RolledBack"));
  expect(claimOf(world)).toBe(SERVED);
});
