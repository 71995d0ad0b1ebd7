import { expect, test } from "@jest/globals";
import { conditionOf } from "../conditions.ts";
import { BACKUP_REPOSITORIES, CLAIMS, JOBS, MIGRATIONS, SECRETS, VIRTUAL_MACHINES, VM_RESTORES } from "../kinds.ts";
import type { ResourceType } from "../runtime/objects.ts";
import { changeSpec, reasonIs, relocation, settle } from "./testing/course.ts";
import { operatorIn, phaseIs, play, restoreIn } from "./testing/run.ts";
import { OWN, TENANT, World } from "./testing/world.ts";

// Two things that people do, or that happen, at once.

const claimsOf = (world: World) =>
  world.cluster
    .peek(VIRTUAL_MACHINES, TENANT, "orders-db")
    ?.spec?.template?.spec?.volumes?.map(({ persistentVolumeClaim: claim }) => claim?.claimName);
const SERVED = ["orders-db-root-restoring", "orders-db-data-restoring"];
const TARGETS = ["orders-db-root", "orders-db-data"];

/** A machine of two disks that is migrated live, and whose migration goes on when it is let. */
async function migratingTwo(change: object = {}): Promise<World> {
  const world = new World();
  world.volumeMigrations.install();
  world.volumeMigrations.stalls = true;
  world.backUp("root", "data");
  world.restore(relocation(change));
  await play(world, () => world.cluster.all(MIGRATIONS).some(({ status }) => status?.phase === "Running"));
  return world;
}

test("one of several disks has no target any more while all are migrated live: all go back, and begin anew together", async () => {
  const world = await migratingTwo({ strategy: "LiveMigration" });
  expect(claimsOf(world)).toEqual(TARGETS);
  world.cluster.erase(CLAIMS, TENANT, "orders-db-data");
  const seen = new Set<string>();
  await play(world, () => {
    seen.add(`${claimsOf(world)}`);
    return `${claimsOf(world)}` === `${SERVED}`;
  });
  expect([...seen]).toEqual([`${TARGETS}`, `${SERVED}`]);
  world.volumeMigrations.stalls = false;
  const end = await play(world, phaseIs("Completed"));
  expect(claimsOf(world)).toEqual(TARGETS);
  expect(end?.status?.disks?.map(({ bytesRelocated }) => bytesRelocated)).toEqual([64 * 2 ** 20, 64 * 2 ** 20]);
  expect(world.told).not.toContain("seal");
});

test("KubeVirt cannot copy one of several disks, twice: all of them are copied instead", async () => {
  const world = await migratingTwo();
  world.volumeMigrations.failures = ["disk data: no space left", "disk data: no space left"];
  world.volumeMigrations.stalls = false;
  const end = await play(world, phaseIs("Completed"));
  expect(end?.status).toMatchObject({
    strategy: "Copy",
    strategyReason: expect.stringContaining("disk data: no space"),
  });
  expect(claimsOf(world)).toEqual(TARGETS);
  expect(world.faults).toEqual([]);
});

test("somebody sets one of several disks back while they are migrated: nothing is guessed, and what to do is told", async () => {
  const world = await migratingTwo({ strategy: "LiveMigration" });
  world.cluster.change(VIRTUAL_MACHINES, TENANT, "orders-db", (machine) => {
    const volumes = [
      { name: "root", persistentVolumeClaim: { claimName: TARGETS[0] ?? "" } },
      { name: "data", persistentVolumeClaim: { claimName: SERVED[1] ?? "" } },
    ];
    const template = { ...machine.spec?.template, spec: { ...machine.spec?.template?.spec, volumes } };
    machine.spec = { ...machine.spec, template };
  });
  const told = await play(world, reasonIs("Relocated", "VolumesChanged"));
  expect(told?.status?.message).toContain(TARGETS.join(", "));
  await settle(world);
  expect(world.told).not.toContain("seal");
  expect(restoreIn(world)?.status?.phase).toBe("Relocating");
});

test.each(["Retain", "Discard"])(
  "the namespace is deleted while the machine is on trial (%s): it and the agent go, and nothing is left",
  async (deletionPolicy) => {
    const world = new World();
    world.restore({ ...relocation({ trial: { period: "1h" } }), deletionPolicy });
    await play(world, phaseIs("OnTrial"));
    for (const type of [VM_RESTORES, VIRTUAL_MACHINES, CLAIMS, JOBS, SECRETS] as ResourceType[])
      for (const { metadata } of world.cluster.all(type))
        if (metadata.namespace === TENANT) world.cluster.erase(type, TENANT, metadata.name);
    await play(world, (restore) => restore === undefined);
    world.step();
    expect(world.cluster.keys().filter((key) => key.includes("vmr-"))).toEqual([]);
    expect(world.told).toContain("unpin");
  },
);

test("dry run set and taken back while a restore waits for its turn: it tells its plan, stands in nobody's way, and waits again", async () => {
  const world = new World();
  world.guestReady = false;
  world.cluster.change(BACKUP_REPOSITORIES, TENANT, "nightly", (repository) => {
    repository.spec = { ...(repository.spec as object), maxConcurrentRestores: 1 };
  });
  const names = ["first", "orders-db", "third"];
  for (const name of names) {
    world.restore({ virtualMachine: { name }, relocation: { strategy: "None" } }, name);
    await world.clock.advance(1000);
  }
  const operator = operatorIn(world);
  const goOn = async (rounds: number) => {
    for (let round = 0; round < rounds; round++) {
      for (const name of names) await operator.reconcile(TENANT, name).catch(() => undefined);
      world.step();
      await world.clock.advance(1000);
    }
  };
  const positions = () => names.map((name) => restoreIn(world, name)?.status?.queue?.position);
  await goOn(15);
  expect(positions()).toEqual([undefined, 1, 2]);
  changeSpec(world, { dryRun: true });
  await goOn(15);
  expect(positions()).toEqual([undefined, undefined, 1]);
  const planned = restoreIn(world);
  expect(conditionOf(planned?.status?.conditions, "Admitted")?.reason).toBe("DryRun");
  expect(planned?.status?.plan?.objects.length).toBeGreaterThan(3);
  const uid = planned?.metadata.uid ?? "";
  expect(world.cluster.all(JOBS).filter(({ metadata }) => metadata.name.includes(uid))).toEqual([]);
  changeSpec(world, { dryRun: false });
  await goOn(15);
  expect(positions()).toEqual([undefined, 1, 2]);
  // It is a plan no more.
  expect(restoreIn(world)?.status?.message).toContain("waits for its turn");
  expect(world.cluster.peek(SECRETS, OWN, `vmr-${uid}-plan`)).toBeUndefined();
  world.guestReady = true;
  await goOn(80);
  expect(names.map((name) => restoreIn(world, name)?.status?.phase)).toEqual(["Running", "Running", "Running"]);
});

test("a relocation that begins at a time and is paused meanwhile begins when both let it", async () => {
  const world = new World();
  const at = (seconds: number) => new Date(world.clock.now() + 1000 * seconds).toISOString();
  const copies = () => world.cluster.all(JOBS).some(({ metadata }) => metadata.name.endsWith("-copy"));
  const begin = { begin: "At", beginAt: at(120) };
  world.restore(relocation({ ...begin, cutover: {} }));
  const waiting = await play(world, reasonIs("Relocated", "AwaitingBegin"));
  expect(waiting?.status?.message).toBe(`Relocation begins at ${begin.beginAt}.`);
  // Paused and let go before its time: it waits for its time.
  changeSpec(world, relocation({ ...begin, cutover: {}, paused: true }));
  expect((await settle(world, 10))?.status?.message).toContain("set spec.relocation.paused to false");
  changeSpec(world, relocation({ ...begin, cutover: {} }));
  expect((await settle(world, 10))?.status?.message).toBe(`Relocation begins at ${begin.beginAt}.`);
  // Paused beyond its time: nothing is copied, and it is the pause that is told.
  changeSpec(world, relocation({ ...begin, cutover: {}, paused: true }));
  const over = await settle(world, 150);
  expect(world.clock.now()).toBeGreaterThan(Date.parse(begin.beginAt));
  expect(over?.status?.message).toContain("set spec.relocation.paused to false");
  expect(copies()).toBe(false);
  changeSpec(world, relocation({ ...begin, cutover: {} }));
  await play(world, copies);
  // Paused on the way, and put off: what was begun goes on where it was.
  const later = { begin: "At", beginAt: at(600) };
  changeSpec(world, relocation({ ...later, cutover: {}, paused: true }));
  await play(world, reasonIs("Relocated", "Paused"));
  await settle(world, 5);
  changeSpec(world, relocation({ ...later, cutover: {} }));
  await play(world, reasonIs("CutOver", "AwaitingApproval"));
  expect(world.clock.now()).toBeLessThan(Date.parse(later.beginAt));
});
