import { expect, test } from "@jest/globals";
import { vmRestoreStatus } from "../../api/vm-restore-status.ts";
import { conditionOf } from "../conditions.ts";
import { JOBS, STORAGE_CLASSES, VM_RESTORES } from "../kinds.ts";
import { DISK_SIZE } from "./testing/backed-up.ts";
import { changeSpec, reasonIs, relocation, settle } from "./testing/course.ts";
import { phaseIs, play, restoreIn } from "./testing/run.ts";
import { OWN, TENANT, World } from "./testing/world.ts";

const SPEC = { dryRun: true, ...relocation() };
const isTold = reasonIs("Admitted", "DryRun");
const inspections = (world: World) =>
  world.cluster.writes.filter(({ type, verb }) => type === JOBS && verb === "create").length;

test("a dry run tells what would be made, makes nothing, and leaves nothing behind", async () => {
  const world = new World();
  const before = world.cluster.keys();
  world.restore(SPEC);
  await play(world, isTold);
  const restore = await settle(world, 90);
  expect(restore?.status?.phase).toBe("Pending");
  const uid = restore?.metadata.uid;
  const plan = restore?.status?.plan;
  expect(vmRestoreStatus.safeParse(restore?.status).error).toBeUndefined();
  expect(plan).toMatchObject({
    strategy: "Auto",
    strategyReason: expect.stringMatching(/^Decided when the machine runs/),
    bytesInBackup: 8_000_000,
    missing: [],
  });
  expect(plan?.objects).toEqual(
    expect.arrayContaining([
      { kind: "StatefulSet", namespace: OWN, name: `vmr-${uid}` },
      expect.objectContaining({
        kind: "PersistentVolumeClaim",
        namespace: OWN,
        name: `vmr-${uid}-overlay`,
        storageClassName: "fast",
      }),
      { kind: "PersistentVolume", name: `vmr-${uid}-root`, bytes: DISK_SIZE },
      { kind: "PersistentVolumeClaim", namespace: TENANT, name: "orders-db-root-restoring", bytes: DISK_SIZE },
      expect.objectContaining({
        kind: "PersistentVolumeClaim",
        namespace: TENANT,
        name: "orders-db-root",
        storageClassName: "fast",
      }),
      { kind: "VirtualMachine", namespace: TENANT, name: "orders-db" },
      { kind: "Job", namespace: TENANT, name: `vmr-${uid}-copy` },
    ]),
  );
  // Storage is asked for by the overlay, the cache and the target; what the agent serves costs none.
  const claims = plan?.objects.filter(({ storageClassName }) => storageClassName !== undefined) ?? [];
  expect(claims).toHaveLength(3);
  expect(plan?.bytesToClaim).toBe(claims.reduce((sum, { bytes = 0 }) => sum + bytes, 0));
  expect(restore?.status?.message).toMatch(
    /^A dry run: nothing is made\. \d+ objects would be, .* set spec\.dryRun to false\.$/,
  );
  const left = world.cluster.keys().filter((key) => !before.includes(key) && !/^(Event|VMRestore)\//.test(key));
  expect(left).toEqual([]);
  // The backup was looked at once.
  expect(inspections(world)).toBe(1);
  const written = new Set(world.cluster.writes.map(({ type }) => type.kind));
  expect([...written].sort()).toEqual(["Event", "Job", "VMRestore"]);
});

test("what a dry run tells is what is made when it is turned off", async () => {
  const world = new World();
  const before = world.cluster.keys();
  world.restore(SPEC);
  const told = await play(world, isTold);
  const made = new Set<string>();
  world.cluster.onWrite = ({ verb, type, namespace, name }, moment) => {
    if (verb === "create" && moment === "after" && !name.endsWith("-inspect"))
      made.add(`${type.kind}/${namespace ?? ""}/${name}`);
  };
  changeSpec(world, { dryRun: false });
  const completed = await play(world, phaseIs("Completed"));
  expect([...made].sort()).toEqual(
    told?.status?.plan?.objects.map(({ kind, namespace = "", name }) => `${kind}/${namespace}/${name}`).sort(),
  );
  expect(before).not.toContain("VirtualMachine/default/orders-db");
  expect(completed?.status?.plan).toBeUndefined();
  expect(conditionOf(completed?.status?.conditions, "Admitted")?.status).toBe("True");
});

test("a dry run names everything that is missing, and sees when it is there", async () => {
  const world = new World();
  world.restore({
    ...SPEC,
    relocation: { target: { storageClassName: "faster", perDisk: [{ name: "data" }] } },
  });
  const told = await play(world, isTold);
  expect(told?.status?.plan?.missing.map(({ reason }) => reason)).toEqual(["StorageClassNotFound", "DiskNotFound"]);
  expect(told?.status?.message).toMatch(/Missing: There is no StorageClass faster.*It holds root\. Then: to go on/);
  const faster = {
    apiVersion: "storage.k8s.io/v1",
    kind: "StorageClass",
    metadata: { name: "faster" },
    provisioner: "p",
  };
  world.cluster.put(STORAGE_CLASSES, faster);
  await play(world, (restore) => restore?.status?.plan?.missing.length === 1);
  // Another spec is looked at at once.
  changeSpec(world, SPEC);
  await play(world, (restore) => restore?.status?.plan?.missing.length === 0, 10);
});

test("a dry run of a backup that is not there says so", async () => {
  const world = new World();
  world.restore({ ...SPEC, source: { repository: { name: "none" }, snapshot: { latest: {} } } });
  await play(world, reasonIs("SourceReady", "RepositoryNotFound"));
  expect(restoreIn(world)?.status?.plan).toBeUndefined();
});

test("a dry run that comes too late changes nothing", async () => {
  const world = new World();
  world.restore(relocation({ cutover: {} }));
  await play(world, phaseIs("Relocating"));
  changeSpec(world, { dryRun: true, ...relocation() });
  await play(world, phaseIs("Completed"));
});

test("a dry run that is deleted leaves nothing", async () => {
  const world = new World();
  const before = world.cluster.keys();
  world.restore(SPEC);
  await play(world, (restore) => restore !== undefined && inspections(world) > 0);
  world.cluster.erase(VM_RESTORES, TENANT, "orders-db");
  await play(world, (restore) => restore === undefined);
  await settle(world, 2);
  expect(world.cluster.keys().filter((key) => !before.includes(key) && !key.startsWith("Event/"))).toEqual([]);
});
