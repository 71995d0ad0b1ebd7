import { expect, test } from "@jest/globals";
import { LABELS } from "../../api/group.ts";
import { conditionOf } from "../conditions.ts";
import { CLAIMS, INSTANCES, JOBS, MIGRATIONS, PODS, STATEFUL_SETS, VIRTUAL_MACHINES, VM_RESTORES } from "../kinds.ts";
import { INSTANCE_FINALIZER } from "./live-state.ts";
import { isLauncher, mountsAny } from "./pods.ts";
import { changeSpec, claimOf, reasonIs, relocation, settle } from "./testing/course.ts";
import { phaseIs, play, restoreIn } from "./testing/run.ts";
import { TENANT, World } from "./testing/world.ts";

// Who replaces a machine's whole manifest takes the operator's annotations off with what was there. The label may be kept, or come back.

const NAME = "orders-db";
const TARGET = "orders-db-root";
const SERVED = "orders-db-root-restoring";

function takeMarksOff(world: World, claimName = claimOf(world) ?? ""): void {
  world.cluster.change(VIRTUAL_MACHINES, TENANT, NAME, (machine) => {
    delete machine.metadata.annotations;
    machine.metadata.labels = { [LABELS.restoreUid]: restoreIn(world)?.metadata.uid ?? "" };
    const volumes = [{ name: "root", persistentVolumeClaim: { claimName } }];
    const { updateVolumesStrategy: _, ...spec } = machine.spec ?? {};
    const template = { ...spec.template, spec: { ...spec.template?.spec, volumes } };
    machine.spec = { ...spec, runStrategy: "Always", template };
  });
}

/** A world in which KubeVirt copies, and goes on doing so until it is let. */
async function migrating(): Promise<World> {
  const world = new World();
  world.volumeMigrations.install();
  world.volumeMigrations.stalls = true;
  world.restore({ relocation: { target: { storageClassName: "fast" } } });
  await play(world, () => world.cluster.all(MIGRATIONS).some(({ status }) => status?.phase === "Running"));
  return world;
}

const copies = (world: World, since = 0) =>
  world.cluster.writes.slice(since).filter(({ type, name }) => type === JOBS && name.endsWith("-copy"));

test("a machine that loses its marks while KubeVirt moves it is still watched over, to its end", async () => {
  const world = await migrating();
  const uid = world.cluster.peek(INSTANCES, TENANT, NAME)?.metadata.uid;
  takeMarksOff(world);
  // Another name is no other target for a migration that is under way.
  const perDisk = [{ name: "root", claimName: "orders-db-other" }];
  changeSpec(world, { relocation: { target: { storageClassName: "fast", perDisk } } });
  await settle(world, 5);
  world.volumeMigrations.stalls = false;
  await play(world, phaseIs("Completed"));
  expect(claimOf(world)).toBe(TARGET);
  const instance = world.cluster.peek(INSTANCES, TENANT, NAME);
  expect(instance?.metadata.uid).toBe(uid);
  expect(instance?.metadata.finalizers ?? []).not.toContain(INSTANCE_FINALIZER);
  expect(copies(world)).toEqual([]);
});

test("nothing is copied to a target that KubeVirt mirrors to: it is called off first", async () => {
  const world = await migrating();
  takeMarksOff(world);
  changeSpec(world, relocation({ strategy: "Copy" }));
  await play(world, () => copies(world).length > 0);
  expect(claimOf(world)).toBe(SERVED);
  expect(world.cluster.peek(INSTANCES, TENANT, NAME)?.status?.migratedVolumes).toBeUndefined();
  const running = world.cluster.all(PODS).filter(({ status }) => status?.phase === "Running");
  expect(running.some((pod) => mountsAny(pod, new Set([TARGET])) && isLauncher(pod))).toBe(false);
  await play(world, phaseIs("Completed"));
  expect(claimOf(world)).toBe(TARGET);
});

test("a machine that is replaced by its manifest of before its migration stays on the agent", async () => {
  const world = await migrating();
  takeMarksOff(world, SERVED);
  changeSpec(world, { relocation: { target: { storageClassName: "fast" }, strategy: "LiveMigration" } });
  await play(world, reasonIs("Relocated", "LiveMigrationGivenUp"));
  expect(claimOf(world)).toBe(SERVED);
});

test("nothing is copied to a target that the machine runs from, whoever put it there", async () => {
  const world = new World();
  world.restore(relocation({ cutover: {} }));
  await play(world, reasonIs("Relocated", "Copying"));
  takeMarksOff(world, TARGET);
  world.cluster.erase(INSTANCES, TENANT, NAME);
  await play(world, reasonIs("Relocated", "TargetInUse"));
  const restore = await settle(world, 5);
  expect(restore?.status?.message).toMatch(/set its volumes to orders-db-root-restoring\.$/);
  expect(world.cluster.all(JOBS)).toEqual([]);
  takeMarksOff(world, SERVED);
  world.cluster.erase(INSTANCES, TENANT, NAME);
  await play(world, reasonIs("CutOver", "AwaitingApproval"));
});

test("a machine that loses its marks while it is taken back is taken back all the same, and its target is not written to", async () => {
  const world = new World();
  world.restore(relocation({ trial: { period: "1h", onExpiry: "RollBack" } }));
  await play(world, phaseIs("OnTrial"));
  const since = world.cluster.writes.length;
  await world.clock.advance(3600_000);
  await play(world, phaseIs("RollingBack"));
  takeMarksOff(world);
  const restore = await play(world, reasonIs("RolledBack", "RolledBack"));
  await settle(world, 30);
  expect(copies(world, since)).toEqual([]);
  expect(claimOf(world)).toBe(SERVED);
  expect(world.cluster.all(INSTANCES)).toHaveLength(1);
  expect(world.faults).toEqual([]);
  expect(conditionOf(restore?.status?.conditions, "RolledBack")?.message).toMatch(
    /What it wrote on its target since 20\S+ is lost/,
  );
});

test("a machine that was taken back, and loses its marks, is not cut over and taken back again and again", async () => {
  const world = new World();
  world.restore(relocation({ trial: { period: "1m", onExpiry: "RollBack" } }));
  await play(world, reasonIs("RolledBack", "RolledBack"));
  await settle(world, 5);
  const since = world.cluster.writes.length;
  takeMarksOff(world);
  await settle(world, 40);
  expect(copies(world, since)).toEqual([]);
  expect(claimOf(world)).toBe(SERVED);
  changeSpec(world, relocation({ trial: { period: "1m", onExpiry: "Commit" } }));
  await play(world, reasonIs("RolledBack", "RelocatedAnew"));
  await play(world, phaseIs("Completed"));
});

test("what going back loses is told of a machine that lost its marks on its trial, too", async () => {
  const world = new World();
  world.restore(relocation({ trial: { period: "1h" } }));
  await play(world, phaseIs("OnTrial"));
  takeMarksOff(world);
  const restore = await settle(world, 5);
  expect(restore?.status?.message).toMatch(/Going back loses what the machine wrote since 20/);
});

test("a guest that does not come up on its target is not waited for for ever by a machine that lost its marks", async () => {
  const world = new World();
  world.restore(relocation());
  await play(world, reasonIs("CutOver", "FinalPass"));
  world.guestReady = false;
  await play(world, reasonIs("CutOver", "Starting"));
  takeMarksOff(world);
  await world.clock.advance(3600_000);
  await play(world, phaseIs("Completed"));
});

test("a machine that is deleted when its target was lost at the last moment keeps the overlay", async () => {
  const world = new World();
  world.restore(relocation());
  await play(world, reasonIs("CutOver", "Switching"));
  expect(claimOf(world)).toBe(SERVED);
  world.cluster.erase(CLAIMS, TENANT, TARGET);
  world.cluster.erase(VIRTUAL_MACHINES, TENANT, NAME);
  const restore = await play(world, reasonIs("VirtualMachineCreated", "VirtualMachineDeleted"));
  expect(restore?.status?.phase).toBe("Failed");
  expect(world.cluster.all(STATEFUL_SETS)).toHaveLength(1);
});

test.each(["deleted", "replaced"])(
  "a machine that is %s right after it was switched is on its target, whatever the status says yet",
  async (what) => {
    const world = new World();
    world.restore(relocation());
    // The operator dies before it sees what became of the switch.
    await play(world, () => claimOf(world) === TARGET);
    if (what === "deleted") world.cluster.erase(VIRTUAL_MACHINES, TENANT, NAME);
    else takeMarksOff(world);
    const target = world.cluster.peek(CLAIMS, TENANT, TARGET)?.metadata.uid;
    const since = world.cluster.writes.length;
    await play(world, phaseIs("Completed"));
    expect(copies(world, since)).toEqual([]);
    expect(world.cluster.all(STATEFUL_SETS)).toEqual([]);
    world.cluster.erase(VM_RESTORES, TENANT, NAME);
    await play(world, (restore) => restore === undefined);
    expect(world.cluster.peek(CLAIMS, TENANT, TARGET)?.metadata.uid).toBe(target);
  },
);

// The disks are sealed from then on: what is on the agent takes no write, and only a cutover or the way back ends that.
const SEALED = ["FinalPass", "Switching"];
const CHANGES: [string, object, string][] = [
  ["relocation is called off", { strategy: "None" }, TARGET],
  ["the cutover is to wait for approval", { cutover: {} }, TARGET],
  ["relocation is paused", { paused: true }, TARGET],
  ["it is to be taken back", { trial: { decision: "RollBack" } }, SERVED],
];

test.each(SEALED.flatMap((reason) => CHANGES.map((change) => [reason, ...change] as const)))(
  "a machine that loses its marks at %s is not left on sealed disks where %s",
  async (reason, _, change, claim) => {
    const world = new World();
    world.restore(relocation());
    await play(world, reasonIs("CutOver", reason));
    expect(world.sealed).toBe(true);
    takeMarksOff(world);
    changeSpec(world, relocation(change));
    await settle(world, 60);
    expect(claimOf(world)).toBe(claim);
    if (claim === TARGET) expect(restoreIn(world)?.status?.phase).toBe("Completed");
    else expect(world.sealed).toBe(false);
    expect(world.cluster.all(INSTANCES)).toHaveLength(1);
  },
);

test("a machine that lost its marks with its disks sealed comes to its end when the restore is deleted", async () => {
  const world = new World();
  world.restore(relocation());
  await play(world, reasonIs("CutOver", "FinalPass"));
  takeMarksOff(world);
  changeSpec(world, relocation({ strategy: "None" }));
  world.cluster.erase(VM_RESTORES, TENANT, NAME);
  await play(world, (restore) => restore === undefined);
  expect(claimOf(world)).toBe(TARGET);
  expect(world.cluster.all(STATEFUL_SETS)).toEqual([]);
});

test.each([
  ["relocation is called off", (world: World) => changeSpec(world, relocation({ strategy: "None" }))],
  ["the restore is deleted", (world: World) => world.cluster.erase(VM_RESTORES, TENANT, NAME)],
])("a target that a launcher still runs from is not removed where %s, whatever the machine says", async (_, call) => {
  const world = new World();
  world.restore(relocation({ cutover: {} }));
  await play(world, reasonIs("Relocated", "Copying"));
  takeMarksOff(world, TARGET);
  world.cluster.erase(INSTANCES, TENANT, NAME);
  await play(world, reasonIs("Relocated", "TargetInUse"));
  // The instance keeps the volumes that it was started with.
  takeMarksOff(world, SERVED);
  call(world);
  const restore = await settle(world);
  expect(world.cluster.peek(CLAIMS, TENANT, TARGET)?.metadata.deletionTimestamp).toBeUndefined();
  expect(world.cluster.peek(CLAIMS, TENANT, TARGET)).toBeDefined();
  expect(world.cluster.all(STATEFUL_SETS)).toHaveLength(1);
  if (restore?.metadata.deletionTimestamp === undefined)
    expect(conditionOf(restore?.status?.conditions, "Relocated")?.reason).toBe("TargetInUse");
});
