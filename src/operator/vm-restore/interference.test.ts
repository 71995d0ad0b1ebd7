import { expect, test } from "@jest/globals";
import type { VMRestore } from "../../api/vm-restore.ts";
import { conditionOf } from "../conditions.ts";
import {
  CLAIMS,
  INSTANCES,
  JOBS,
  PODS,
  SECRETS,
  STATEFUL_SETS,
  STORAGE_CLASSES,
  VIRTUAL_MACHINES,
  VM_RESTORES,
  VOLUMES,
} from "../kinds.ts";
import { changeSpec, claimOf, reasonIs, settle } from "./testing/course.ts";
import { operatorIn, phaseIs, play, restoreIn } from "./testing/run.ts";
import { OWN, TENANT, World } from "./testing/world.ts";

// What people do while a restore is under way, and what must not come of it.

const COPY = { target: { storageClassName: "fast" }, cutover: { when: "Automatic" } };
const WAITING = { relocation: { ...COPY, cutover: {} } };

/** A restore that waits for leave to cut over: the machine runs from the agent, everything is copied. */
async function waitingForCutover(): Promise<{ world: World; restore: VMRestore | undefined; base: string }> {
  const world = new World();
  world.restore(WAITING);
  const restore = await play(world, reasonIs("CutOver", "AwaitingApproval"));
  return { world, restore, base: `vmr-${restore?.metadata.uid}` };
}

test("a machine that people point at the half-copied target is not taken for cut over: the agent stays", async () => {
  const { world } = await waitingForCutover();
  world.cluster.change(VIRTUAL_MACHINES, TENANT, "orders-db", (machine) => {
    const volumes = [{ name: "root", persistentVolumeClaim: { claimName: "orders-db-root" } }];
    machine.spec = { ...machine.spec, template: { spec: { volumes } } };
  });
  const restore = await settle(world);
  expect(restore?.status?.phase).toBe("Relocating");
  expect(world.cluster.all(STATEFUL_SETS)).toHaveLength(1);
});

test("a target that becomes the served claim while the machine runs is refused, and nothing is torn down", async () => {
  const { world } = await waitingForCutover();
  const perDisk = (claimName: string) => ({
    relocation: { ...COPY, target: { storageClassName: "fast", perDisk: [{ name: "root", claimName }] } },
  });
  changeSpec(world, perDisk("orders-db-root-restoring"));
  const refused = await play(world, reasonIs("Relocated", "ClaimNameTaken"));
  expect(refused?.status?.message).toMatch(/Set another claimName/);
  await settle(world);
  expect(claimOf(world)).toBe("orders-db-root-restoring");
  expect(world.cluster.all(STATEFUL_SETS)).toHaveLength(1);
  changeSpec(world, perDisk("orders-db-other"));
  await play(world, phaseIs("Completed"));
  expect(claimOf(world)).toBe("orders-db-other");
  expect(world.told).toContain("reset");
});

test("relocation that is called off when the machine is halted already is brought to its end", async () => {
  const world = new World();
  world.restore();
  await play(world, reasonIs("CutOver", "FinalPass"));
  changeSpec(world, { relocation: { strategy: "None" }, liveMount: { expiresAfter: "1s", onExpiry: "Discard" } });
  await play(world, phaseIs("Completed"));
  expect(claimOf(world)).toBe("orders-db-root");
  expect(world.cluster.all(INSTANCES)).toHaveLength(1);
});

test("a volume that was renamed meanwhile is switched all the same", async () => {
  const { world } = await waitingForCutover();
  world.cluster.change(VIRTUAL_MACHINES, TENANT, "orders-db", (machine) => {
    const volumes = [{ name: "system", persistentVolumeClaim: { claimName: "orders-db-root-restoring" } }];
    machine.spec = { ...machine.spec, template: { spec: { volumes } } };
  });
  changeSpec(world, { relocation: COPY });
  await play(world, phaseIs("Completed"));
  expect(claimOf(world)).toBe("orders-db-root");
});

test("a machine that is renamed in the spec does not become a second one on the same disk", async () => {
  const { world } = await waitingForCutover();
  changeSpec(world, { virtualMachine: { name: "orders-db-2" } });
  await settle(world);
  expect(world.cluster.all(VIRTUAL_MACHINES).map(({ metadata }) => metadata.name)).toEqual(["orders-db"]);
  changeSpec(world, { relocation: COPY });
  await play(world, phaseIs("Completed"));
  expect(claimOf(world)).toBe("orders-db-root");
});

test("an overlay that is gone is never made anew under a machine", async () => {
  const { world, base } = await waitingForCutover();
  const overlay = world.cluster.peek(CLAIMS, OWN, `${base}-overlay`);
  world.cluster.erase(CLAIMS, OWN, `${base}-overlay`);
  const failed = await play(world, phaseIs("Failed"));
  expect(failed?.status?.message).toMatch(/Put the claim back from a copy of its storage, or delete/);
  world.cluster.erase(STATEFUL_SETS, OWN, base);
  await settle(world);
  expect(world.cluster.peek(CLAIMS, OWN, `${base}-overlay`)).toBeUndefined();
  expect(world.cluster.all(STATEFUL_SETS)).toEqual([]);
  world.cluster.put(CLAIMS, overlay ?? {});
  world.restartAgent();
  world.told.length = 0;
  await play(world, (restore) => restore?.status?.phase === "Relocating" && world.told.length > 0);
  expect(world.cluster.all(STATEFUL_SETS)).toHaveLength(1);
});

test("an overlay that was deleted and is still in use is told of", async () => {
  const { world, base } = await waitingForCutover();
  world.cluster.change(CLAIMS, OWN, `${base}-overlay`, ({ metadata }) => {
    metadata.finalizers = ["kubernetes.io/pvc-protection"];
  });
  world.cluster.erase(CLAIMS, OWN, `${base}-overlay`);
  const degraded = await play(world, reasonIs("Degraded", "OverlayDeleting"));
  expect(degraded?.status?.message).toMatch(/Let the cutover happen before that/);
});

test("a claim of a served disk that somebody deleted is made anew, with its volume, to the same export", async () => {
  const { world, base } = await waitingForCutover();
  world.cluster.change(VOLUMES, undefined, `${base}-root`, (volume) => {
    volume.spec = { ...volume.spec, claimRef: { ...volume.spec?.claimRef, uid: "of the claim that is gone" } };
  });
  world.cluster.erase(CLAIMS, TENANT, "orders-db-root-restoring");
  await settle(world);
  expect(world.cluster.peek(CLAIMS, TENANT, "orders-db-root-restoring")).toBeDefined();
  const volume = world.cluster.peek(VOLUMES, undefined, `${base}-root`);
  expect(volume?.spec?.claimRef?.uid).toBeUndefined();
  expect(volume?.spec?.nfs?.path).toBe("/export/capability");
  changeSpec(world, { relocation: COPY });
  await play(world, phaseIs("Completed"));
});

test("a Job of somebody else that has the relocation Job's name is left alone, and told of", async () => {
  const world = new World();
  world.restore({ relocation: { ...COPY, begin: "Manual" } });
  const restore = await play(world, reasonIs("Relocated", "AwaitingBegin"));
  const name = `vmr-${restore?.metadata.uid}-copy`;
  world.cluster.put(JOBS, { apiVersion: "batch/v1", kind: "Job", metadata: { name, namespace: TENANT } });
  const uid = world.cluster.peek(JOBS, TENANT, name)?.metadata.uid;
  changeSpec(world, { relocation: COPY });
  const refused = await play(world, reasonIs("Relocated", "JobExists"));
  expect(refused?.status?.message).toMatch(/Delete it/);
  await settle(world);
  expect(world.cluster.peek(JOBS, TENANT, name)?.metadata.uid).toBe(uid);
  world.cluster.erase(JOBS, TENANT, name);
  await play(world, phaseIs("Completed"));
});

test("a restore whose spec nobody can follow goes when it is deleted, unless it made something", async () => {
  const spoil = (world: World) => changeSpec(world, { source: { repository: { name: "nightly" }, snapshot: {} } });
  const fresh = new World();
  fresh.restore({ source: { repository: { name: "none" }, snapshot: { latest: {} } } });
  await play(fresh, reasonIs("SourceReady", "RepositoryNotFound"));
  spoil(fresh);
  fresh.cluster.erase(VM_RESTORES, TENANT, "orders-db");
  await play(fresh, (restore) => restore === undefined);

  const { world } = await waitingForCutover();
  spoil(world);
  world.cluster.erase(VM_RESTORES, TENANT, "orders-db");
  const held = await play(world, reasonIs("SpecValid", "InvalidSpec"));
  expect(held?.status?.message).toMatch(/exactly one of/);
  changeSpec(world, { source: { repository: { name: "nightly" }, snapshot: { latest: {} } } });
  await play(world, reasonIs("TornDown", "MachineDependsOnAgent"));
  expect(world.cluster.all(STATEFUL_SETS)).toHaveLength(1);
});

test("a machine of somebody else that took the name holds nothing back, and is left alone", async () => {
  for (const deletionPolicy of ["Retain", "Discard"]) {
    const { world } = await waitingForCutover();
    world.cluster.erase(VIRTUAL_MACHINES, TENANT, "orders-db");
    await play(world, phaseIs("Failed"));
    const metadata = { name: "orders-db", namespace: TENANT, finalizers: ["example.org/stays"] };
    world.cluster.put(INSTANCES, { apiVersion: "kubevirt.io/v1", kind: "VirtualMachineInstance", metadata, spec: {} });
    changeSpec(world, { deletionPolicy });
    world.cluster.erase(VM_RESTORES, TENANT, "orders-db");
    await play(world, (restore) => restore === undefined);
    expect(world.cluster.all(INSTANCES)).toHaveLength(1);
    expect(world.cluster.all(STATEFUL_SETS)).toEqual([]);
  }
});

test("why a relocation Job failed is told in its own words", async () => {
  const { world, base } = await waitingForCutover();
  const metadata = { name: `${base}-copy-9`, namespace: TENANT, labels: { "job-name": `${base}-copy` } };
  const message = "vmrestore: /target/0 is smaller than the disk (RELOCATION_TARGET_UNFIT)\n  make the claim larger";
  const terminated = { exitCode: 1, message };
  const [job] = world.cluster.all(JOBS);
  world.cluster.put(PODS, {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      ...metadata,
      labels: { ...job?.metadata.labels, ...metadata.labels },
      ownerReferences: [{ uid: job?.metadata.uid ?? "", kind: "Job", name: "" }],
    },
    status: { phase: "Failed", containerStatuses: [{ name: "relocate", state: { terminated } }] },
  });
  world.cluster.change(JOBS, TENANT, job?.metadata.name ?? "", (failed) => {
    const lastTransitionTime = new Date(world.clock.now()).toISOString();
    const reason = "BackoffLimitExceeded";
    failed.status = { conditions: [{ type: "Failed", status: "True", reason, lastTransitionTime }] };
  });
  const told = await play(world, reasonIs("Relocated", "JobFailed"));
  expect(told?.status?.message).toBe(
    "The relocation Job ended early and is started again: /target/0 is smaller than the disk (RELOCATION_TARGET_UNFIT) make the claim larger.",
  );
});

test("a status is never written to another object of the same name", async () => {
  const world = new World();
  world.restore();
  await play(world, phaseIs("Relocating"));
  let replaced = false;
  world.cluster.onWrite = ({ type, subresource }, moment) => {
    if (replaced || type !== VM_RESTORES || subresource !== "status" || moment !== "before") return;
    replaced = true;
    world.cluster.change(VM_RESTORES, TENANT, "orders-db", ({ metadata }) => {
      delete metadata.finalizers;
    });
    world.cluster.erase(VM_RESTORES, TENANT, "orders-db");
    world.restore();
  };
  const operator = operatorIn(world);
  for (let round = 0; round < 20 && !replaced; round++) {
    await operator.reconcile(TENANT, "orders-db").catch(() => undefined);
    world.step();
    await world.clock.advance(1000);
  }
  expect(replaced).toBe(true);
  expect(restoreIn(world)?.status).toBeUndefined();
});

test("a status is not written over what changed meanwhile", async () => {
  const world = new World();
  world.restore(WAITING);
  let edited = false;
  world.cluster.onWrite = ({ type, subresource }, moment) => {
    if (edited || type !== VM_RESTORES || subresource !== "status" || moment !== "before") return;
    edited = true;
    changeSpec(world, { deletionPolicy: "Discard" });
  };
  const operator = operatorIn(world);
  await operator.reconcile(TENANT, "orders-db");
  await expect(operator.reconcile(TENANT, "orders-db")).rejects.toMatchObject({ status: 409 });
  expect(restoreIn(world)?.status).toBeUndefined();
});

test("after its restore was deleted, the agent that a machine depends on is still cared for", async () => {
  const { world, base } = await waitingForCutover();
  world.cluster.erase(VM_RESTORES, TENANT, "orders-db");
  await play(world, reasonIs("TornDown", "MachineDependsOnAgent"));
  world.cluster.erase(STATEFUL_SETS, OWN, base);
  const restore = await play(world, () => world.cluster.all(STATEFUL_SETS).length === 1);
  world.restartAgent();
  world.told.length = 0;
  await settle(world);
  expect(world.told).toEqual(["phase Ready"]);
  expect(restore?.status?.message).toMatch(/spec\.deletionPolicy to Discard|does not answer/);
});

test("an agent that is silent when teardown begins is waited for, however long the machine was before that", async () => {
  const { world } = await waitingForCutover();
  world.cluster.erase(VM_RESTORES, TENANT, "orders-db");
  await play(world, reasonIs("TornDown", "MachineDependsOnAgent"));
  await world.clock.advance(3600_000);
  world.agentAnswers = false;
  world.cluster.erase(VIRTUAL_MACHINES, TENANT, "orders-db");
  const waiting = await settle(world);
  expect(waiting?.status?.message).toMatch(/pin is being removed .* does not answer/);
  expect(world.cluster.all(STATEFUL_SETS)).toHaveLength(1);
  world.agentAnswers = true;
  await play(world, (restore) => restore === undefined);
  expect(world.told).toContain("unpin");
});

test("a pin that the agent did not remove is told of, with how to find it", async () => {
  const { world, restore } = await waitingForCutover();
  changeSpec(world, { relocation: COPY });
  await play(world, reasonIs("CutOver", "FinalPass"));
  world.guestReady = false;
  await play(world, reasonIs("CutOver", "Starting"));
  world.agentAnswers = false;
  world.guestReady = true;
  const completed = await play(world, phaseIs("Completed"), 400);
  const pin = conditionOf(completed?.status?.conditions, "PinRemoved");
  expect(pin).toMatchObject({ status: "False", reason: "LeftBehind" });
  expect(pin?.message).toContain(`restic snapshots --host vmrestore-pin-${restore?.metadata.uid}`);
  expect(conditionOf(completed?.status?.conditions, "Degraded")?.status).toBe("False");
});

test("a pod that ended and still holds its mount keeps the agent", async () => {
  const world = new World();
  world.restore({ relocation: { strategy: "None" }, deletionPolicy: "Discard" });
  await play(world, reasonIs("Expired", "Never"));
  world.nfsConnections = 1;
  const volumes = [{ name: "root", persistentVolumeClaim: { claimName: "orders-db-root-restoring" } }];
  const metadata = { name: "virt-launcher-on-a-dead-node", namespace: TENANT };
  const lost = { apiVersion: "v1", kind: "Pod", metadata, spec: { volumes }, status: { phase: "Failed" } };
  world.cluster.put(PODS, { ...lost, metadata: { ...metadata, ownerReferences: [{ uid: "" }] } });
  world.step = () => undefined;
  world.cluster.erase(VM_RESTORES, TENANT, "orders-db");
  world.cluster.erase(INSTANCES, TENANT, "orders-db");
  world.cluster.erase(PODS, TENANT, "virt-launcher-orders-db");
  const waiting = await settle(world);
  expect(waiting?.status?.message).toMatch(/Pod virt-launcher-on-a-dead-node still mounts a disk/);
  expect(world.cluster.all(STATEFUL_SETS)).toHaveLength(1);
  world.nfsConnections = 0;
  await settle(world);
  expect(world.cluster.all(VOLUMES)).toEqual([]);
});

test("a copy that was called off is not told of any more, nor the end of a live mount that is relocated now", async () => {
  const { world } = await waitingForCutover();
  changeSpec(world, { relocation: { strategy: "None" }, liveMount: { expiresAfter: "8h" } });
  const mounted = await play(world, reasonIs("Expired", "NotYet"));
  expect(mounted?.status).toMatchObject({ phase: "Running", strategy: "None", expiresAt: expect.any(String) });
  expect(mounted?.status?.relocation).toBeUndefined();
  expect(mounted?.status?.disks?.[0]?.bytesRelocated).toBeUndefined();
  expect(mounted?.status?.message).toMatch(/It expires at .* and is kept all the same then/);
  changeSpec(world, { relocation: COPY });
  const completed = await play(world, phaseIs("Completed"));
  expect(completed?.status?.expiresAt).toBeUndefined();
  expect(conditionOf(completed?.status?.conditions, "Expired")?.reason).toBe("Relocating");
});

test("what was found in the backup long ago is looked at again before it is built upon", async () => {
  const world = new World();
  world.restore({ relocation: { ...COPY, target: { storageClassName: "later" } } });
  await play(world, reasonIs("TargetReady", "StorageClassNotFound"));
  await world.clock.advance(3600_000);
  if (world.found.snapshot !== undefined) world.found.snapshot.id = "b".repeat(64);
  const metadata = { name: "later" };
  world.cluster.put(STORAGE_CLASSES, { apiVersion: "storage.k8s.io/v1", kind: "StorageClass", metadata });
  const restore = await play(world, (seen) => seen?.status?.snapshot !== undefined);
  expect(restore?.status?.snapshot?.id).toBe("b".repeat(64));
  expect(world.cluster.all(SECRETS).filter((secret) => secret.metadata.name.endsWith("-plan"))).toHaveLength(1);
});
