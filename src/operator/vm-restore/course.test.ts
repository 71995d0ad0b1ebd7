import { expect, test } from "@jest/globals";
import { LABELS } from "../../api/group.ts";
import type { VMRestore } from "../../api/vm-restore.ts";
import { conditionOf } from "../conditions.ts";
import {
  CLAIMS,
  INSTANCES,
  JOBS,
  SECRETS,
  type Secret,
  STATEFUL_SETS,
  VIRTUAL_MACHINES,
  VM_PROFILES,
  VM_RESTORES,
  VOLUMES,
} from "../kinds.ts";
import { DISK_SIZE } from "./testing/backed-up.ts";
import { changeSpec, claimOf, listen, reasonIs, relocation, SENTENCE, settle } from "./testing/course.ts";
import { operatorIn, phaseIs, play, restoreIn } from "./testing/run.ts";
import { OWN, TENANT, World } from "./testing/world.ts";

test("while it copies, each disk tells how many bytes are durable, of how many", async () => {
  const world = new World();
  world.restore();
  const restore = await play(
    world,
    (seen) => seen?.status?.phase === "Relocating" && seen.status.relocation !== undefined,
  );
  const [disk] = restore?.status?.disks ?? [];
  expect(disk?.bytesTotal).toBeGreaterThan(0);
  expect(disk?.bytesRelocated).toBeDefined();
});

test("the machine starts when the agent says that staging keeps ahead of it, not when all is staged", async () => {
  const world = new World();
  world.staged = 40;
  world.launchable = false;
  world.restore();
  const told = (restore: VMRestore | undefined) => conditionOf(restore?.status?.conditions, "BootSetStaged")?.message;
  const waiting = await play(
    world,
    (restore) => told(restore)?.includes("40 B of 100 B that the machine will read first are staged") === true,
  );
  expect(waiting?.status?.phase).toBe("Staging");
  expect(world.cluster.peek(VIRTUAL_MACHINES, TENANT, "orders-db")).toBeUndefined();
  world.launchable = true;
  const launched = await play(world, phaseIs("Launching"));
  expect(conditionOf(launched?.status?.conditions, "BootSetStaged")).toMatchObject({
    status: "True",
    reason: "Staged",
  });
});

test("at every step the status says in words what is waited for", async () => {
  for (const spec of [{}, relocation({ strategy: "None" }), relocation({ begin: "Immediately" })]) {
    const world = new World();
    world.guestReady = false;
    world.restore(spec);
    const said = listen(world);
    await settle(world);
    world.guestReady = true;
    await play(world, () => false, 40).catch(() => undefined);
    const lines = [...said];
    expect(lines.length).toBeGreaterThan(5);
    for (const line of lines) expect(line).toMatch(SENTENCE);
    // What is true already is no answer to what is waited for.
    for (const line of lines) expect(line).not.toMatch(/(media agent serves|was made|Checked|guest is ready\.)\b/);
    for (const line of lines) expect(line).not.toMatch(/0 of 0 bytes|disk\(s\)|\d{6} bytes/);
  }
});

test("no end is foretold for what waits for people, or for a comparison", async () => {
  const world = new World();
  world.restore(relocation({ cutover: {} }));
  const waiting = await play(world, reasonIs("CutOver", "AwaitingApproval"));
  expect(waiting?.status?.relocation).toEqual({ percent: 99 });
  const copying = new World();
  copying.restore();
  const moving = await play(copying, (restore) => restore?.status?.relocation?.bytesPerSecond !== undefined);
  expect(moving?.status?.relocation?.estimatedEnd).toBeDefined();
});

test.each([
  ["that is used", { boots: 1, disks: [{ name: "root", size: 4096, extents: "0+1" }] }, true],
  ["that is none", { boots: 0, disks: [{ name: "root", size: "large", extents: "0+1; rm -rf /" }] }, false],
  ["of another version", { reads: [] }, false],
])("a profile %s stands in nobody's way", async (_, spec, isUsed) => {
  const world = new World();
  const metadata = { name: "orders-db", namespace: TENANT };
  world.cluster.put(VM_PROFILES, { apiVersion: "vmrestore.io/v1alpha1", kind: "VMProfile", metadata, spec });
  world.restore();
  await play(world, () => world.cluster.all(STATEFUL_SETS).length > 0);
  const all = world.cluster.all(SECRETS) as Secret[];
  const secrets = all.filter(({ data }) => data?.["plan.json"] !== undefined);
  expect(secrets.map(({ data }) => data?.["profile.json"] !== undefined)).toEqual([isUsed]);
  await play(world, phaseIs("Completed"));
});

test("a machine that comes back under another name boots with what it learned under its own, and teaches it", async () => {
  const world = new World();
  const metadata = { name: "orders-db", namespace: TENANT };
  const spec = { boots: 1, disks: [{ name: "root", size: 4096, extents: "0+1" }] };
  world.cluster.put(VM_PROFILES, { apiVersion: "vmrestore.io/v1alpha1", kind: "VMProfile", metadata, spec });
  world.restore({ virtualMachine: { name: "orders-db-test" } });
  await play(world, () => world.cluster.all(STATEFUL_SETS).length > 0);
  const [plan] = (world.cluster.all(SECRETS) as Secret[]).filter(({ data }) => data?.["plan.json"] !== undefined);
  expect(plan?.data?.["profile.json"]).toBeDefined();
  await play(world, phaseIs("Completed"));
  const profiles = world.cluster.all(VM_PROFILES);
  expect(profiles.map(({ metadata: { name } }) => name)).toEqual(["orders-db"]);
  expect(profiles[0]?.metadata.annotations?.["vmrestore.io/learned-from"]).toBeDefined();
});

test("a restore goes through its phases in order and tells the truth", async () => {
  const world = new World();
  world.restore();
  const restore = await play(world, phaseIs("Completed"));
  const status = restore?.status;
  const steps = status?.timeline?.map(({ step }) => step);
  expect(steps).toEqual(["Pending", "Preparing", "Staging", "Launching", "Relocating", "CuttingOver"]);
  expect(status?.timeline?.every(({ finishedAt }) => finishedAt !== undefined)).toBe(true);
  expect(status?.relocation).toEqual({ percent: 100 });
  expect(status?.bootSet?.hitRatio).toBe("0.75");
  expect(status?.timeToGuestReady).toMatch(/s$/);
  expect(status?.cutoverDowntime).toMatch(/s$/);
  expect(claimOf(world)).toBe("orders-db-root");
  expect(world.told.filter((what) => what.startsWith("phase"))).toEqual([
    "phase Booting",
    "phase Ready",
    "phase Relocating",
  ]);
  expect(world.cluster.peek(VM_PROFILES, TENANT, "orders-db")).toBeDefined();
  expect(world.cluster.all(STATEFUL_SETS)).toEqual([]);
  const machine = world.cluster.peek(VIRTUAL_MACHINES, TENANT, "orders-db");
  expect(machine?.metadata.labels?.[LABELS.restoreUid]).toBe(restore?.metadata.uid);
  for (const object of [...world.cluster.all(CLAIMS), ...world.cluster.all(VIRTUAL_MACHINES)])
    expect(object.metadata.ownerReferences).toBeUndefined();
});

test("while the agent serves it, a disk is a ReadWriteMany NFS volume of the disk's own size", async () => {
  const world = new World();
  world.restore();
  await play(world, phaseIs("Relocating"));
  const [volume] = world.cluster.all(VOLUMES);
  expect(volume?.spec).toMatchObject({
    accessModes: ["ReadWriteMany"],
    capacity: { storage: String(DISK_SIZE) },
    persistentVolumeReclaimPolicy: "Retain",
    nfs: { server: "10.0.0.7", path: "/export/capability" },
    mountOptions: ["nfsvers=3", "tcp", "nolock", "port=2049", "mountport=2049", "mountproto=tcp", "hard"],
  });
  expect(claimOf(world)).toBe("orders-db-root-restoring");
});

test("a completed restore goes when its time to live is over, and the machine stays", async () => {
  const world = new World();
  world.restore({ ttlAfterCompletion: "1h" });
  await play(world, phaseIs("Completed"));
  const before = world.cluster.keys().filter((key) => !/^(Event|VMRestore)\//.test(key));
  await world.clock.advance(3500_000);
  await settle(world);
  expect(restoreIn(world)?.status?.phase).toBe("Completed");
  await world.clock.advance(100_000);
  await play(world, (restore) => restore === undefined);
  expect(world.cluster.keys().filter((key) => !/^(Event|VMRestore)\//.test(key))).toEqual(before);
  expect(world.cluster.all(INSTANCES)).toHaveLength(1);
});

test("a restore that failed outlives its time to live", async () => {
  const world = new World();
  world.verifyFails = true;
  world.restore({ ttlAfterCompletion: "1s" });
  await play(world, phaseIs("Failed"));
  await world.clock.advance(3600_000);
  await settle(world);
  expect(restoreIn(world)?.status?.phase).toBe("Failed");
});

test("claims that are full on purpose say so to the alert on volumes that fill up, and no others do", async () => {
  const world = new World();
  world.restore();
  await play(world, () => world.cluster.peek(CLAIMS, TENANT, "orders-db-root") !== undefined);
  const quiet = world.cluster
    .all(CLAIMS)
    .filter(({ metadata }) => metadata.labels?.["alerts.k8s.io/KubePersistentVolumeFillingUp"] === "disabled")
    .map(({ metadata }) => metadata.name.replace(/^vmr-.*-/, ""));
  expect(quiet.sort()).toEqual(["cache", "orders-db-root", "orders-db-root-restoring"]);
});

test("cutover waits for approval, and for its time", async () => {
  const world = new World();
  world.restore(relocation({ cutover: {} }));
  const waiting = await play(world, reasonIs("CutOver", "AwaitingApproval"));
  expect(waiting?.status?.phase).toBe("Relocating");
  expect(waiting?.status?.message).toMatch(/set spec\.relocation\.cutover\.when to Automatic/);
  await settle(world);
  expect(world.sealed).toBe(false);
  const at = new Date(world.clock.now() + 3600_000).toISOString();
  changeSpec(world, relocation({ cutover: { when: "At", at } }));
  await play(world, reasonIs("CutOver", "AwaitingTime"));
  await world.clock.advance(3600_000);
  await play(world, phaseIs("Completed"));
});

test("relocation begins when it is told to", async () => {
  const world = new World();
  world.restore(relocation({ begin: "Manual" }));
  const running = await play(world, reasonIs("Relocated", "AwaitingBegin"));
  expect(running?.status?.phase).toBe("Running");
  await settle(world);
  expect(world.cluster.all(JOBS)).toEqual([]);
  changeSpec(world, relocation({ begin: "GuestReady" }));
  await play(world, phaseIs("Completed"));
});

test("a guest that is late is told to the agent, still waited for, and holds relocation back", async () => {
  const world = new World();
  world.guestReady = false;
  world.restore({ launch: { guestReady: { timeout: "5s" } } });
  const late = await play(world, reasonIs("GuestReady", "TimedOut"));
  expect(late?.status?.phase).toBe("Launching");
  await settle(world);
  expect(world.told.at(-1)).toBe("phase BootFailed");
  expect(world.cluster.all(JOBS)).toEqual([]);
  world.guestReady = true;
  await play(world, phaseIs("Completed"));
});

test("a restarted agent is told the phase again", async () => {
  const world = new World();
  world.restore(relocation({ cutover: {} }));
  await play(world, reasonIs("CutOver", "AwaitingApproval"));
  world.told.length = 0;
  world.restartAgent();
  await settle(world);
  expect(world.told).toEqual(["phase Relocating"]);
});

test("the agent knows how the guest sees its disks before the machine is made, and when that changes", async () => {
  const world = new World();
  world.manifestBus = null;
  world.restore(relocation({ cutover: {} }));
  await play(world, reasonIs("CutOver", "AwaitingApproval"));
  const told = world.told.filter((what) => /^(bus|phase Booting)/.test(what));
  expect(told).toEqual(["phase Booting", "bus sata"]);
  world.instanceBus = "virtio";
  world.told.length = 0;
  await settle(world);
  expect(world.told.filter((what) => what.startsWith("bus"))).toEqual(["bus virtio"]);
});

test("a machine on virtio is nothing to tell of", async () => {
  const world = new World();
  world.restore(relocation({ cutover: {} }));
  await play(world, reasonIs("CutOver", "AwaitingApproval"));
  expect(world.told.filter((what) => what.startsWith("bus"))).toEqual([]);
});

test("a read that waits for the repository for too long is told, and that it is over", async () => {
  const world = new World();
  world.restore({ ...relocation({ cutover: {} }), mediaAgent: { repositoryPatience: "1m" } });
  await play(world, reasonIs("CutOver", "AwaitingApproval"));
  world.longestWait = 59_000;
  await settle(world);
  expect(world.told.at(-1)).toBe("phase Relocating");
  world.longestWait = 61_000;
  const degraded = await play(world, reasonIs("Degraded", "RepositorySlow"));
  expect(degraded?.status?.message).toMatch(/waiting for the repository for 1m1s/);
  world.longestWait = 0;
  await play(world, reasonIs("Degraded", "AsExpected"));
});

test("a full overlay is told, and that it has grown", async () => {
  const world = new World();
  world.restore(relocation({ cutover: {} }));
  await play(world, reasonIs("CutOver", "AwaitingApproval"));
  world.overlayFull = true;
  const degraded = await play(world, reasonIs("Degraded", "OverlayFull"));
  expect(degraded?.status?.message).toMatch(/writes wait\. Enlarge its claim/);
  world.overlayFull = false;
  await play(world, reasonIs("Degraded", "AsExpected"));
});

test("an agent that does not answer is told, and changes nothing", async () => {
  const world = new World();
  world.restore(relocation({ cutover: {} }));
  await play(world, reasonIs("CutOver", "AwaitingApproval"));
  const before = world.cluster.keys().filter((key) => !key.startsWith("Event/"));
  world.agentAnswers = false;
  const degraded = await play(world, reasonIs("Degraded", "AgentUnreachable"));
  expect(degraded?.status?.phase).toBe("Relocating");
  expect(degraded?.status?.message).toMatch(/does not answer/);
  await settle(world);
  expect(world.cluster.keys().filter((key) => !key.startsWith("Event/"))).toEqual(before);
  world.agentAnswers = true;
  await play(world, reasonIs("Degraded", "AsExpected"));
});

test("a target that returns other bytes is never switched to; a new claim is written from the beginning", async () => {
  const world = new World();
  world.verifyFails = true;
  world.restore();
  const failed = await play(world, phaseIs("Failed"));
  expect(failed?.status?.message).toMatch(/delete claim orders-db-root/);
  await settle(world);
  expect(claimOf(world)).toBe("orders-db-root-restoring");
  world.verifyFails = false;
  world.cluster.erase(CLAIMS, TENANT, "orders-db-root");
  await play(world, phaseIs("Completed"));
  expect(world.told).toContain("reset");
});

test("a target claim that was replaced while it was copied to is written from the beginning", async () => {
  const world = new World();
  world.restore(relocation({ cutover: {} }));
  await play(world, reasonIs("CutOver", "AwaitingApproval"));
  const before = world.cluster.peek(CLAIMS, TENANT, "orders-db-root");
  world.cluster.erase(CLAIMS, TENANT, "orders-db-root");
  await play(
    world,
    (restore) => restore?.status?.targetClaims?.some(({ uid }) => uid !== before?.metadata.uid) ?? false,
  );
  expect(world.told).toContain("reset");
  changeSpec(world, relocation({}));
  await play(world, phaseIs("Completed"));
});

test("a relocation Job that gave up is replaced", async () => {
  const world = new World();
  world.restore(relocation({ cutover: {} }));
  await play(world, phaseIs("Relocating"));
  await play(world, () => world.cluster.all(JOBS).length > 0);
  const [job] = world.cluster.all(JOBS);
  world.cluster.change(JOBS, TENANT, job?.metadata.name ?? "", (failed) => {
    const lastTransitionTime = new Date(world.clock.now()).toISOString();
    failed.status = {
      conditions: [{ type: "Failed", status: "True", message: "BackoffLimitExceeded", lastTransitionTime }],
    };
  });
  await play(world, reasonIs("Relocated", "JobFailed"));
  await play(world, () => world.cluster.all(JOBS).some(({ metadata }) => metadata.uid !== job?.metadata.uid));
});

test("relocation can be called off before cutover: the machine runs on from the agent", async () => {
  const world = new World();
  world.restore(relocation({ cutover: {} }));
  await play(world, reasonIs("CutOver", "AwaitingApproval"));
  changeSpec(world, relocation({ strategy: "None" }));
  await play(
    world,
    () => world.cluster.all(JOBS).length === 0 && world.cluster.peek(CLAIMS, TENANT, "orders-db-root") === undefined,
  );
  await settle(world);
  expect(claimOf(world)).toBe("orders-db-root-restoring");
  expect(world.cluster.all(INSTANCES)).toHaveLength(1);
  changeSpec(world, relocation({}));
  await play(world, phaseIs("Completed"));
  expect(world.told).toContain("reset");
});

test("a machine that its users deleted stays deleted, and what it wrote is kept", async () => {
  const world = new World();
  world.restore(relocation({ cutover: {} }));
  await play(world, reasonIs("CutOver", "AwaitingApproval"));
  world.cluster.erase(VIRTUAL_MACHINES, TENANT, "orders-db");
  const failed = await play(world, phaseIs("Failed"));
  expect(failed?.status?.message).toMatch(/delete this VMRestore to discard it/);
  await settle(world);
  expect(world.cluster.all(VIRTUAL_MACHINES)).toEqual([]);
  expect(world.cluster.all(STATEFUL_SETS)).toHaveLength(1);
});

test("deleting a restore whose machine depends on the agent keeps the agent until the machine is gone", async () => {
  const world = new World();
  world.restore(relocation({ cutover: {} }));
  await play(world, reasonIs("CutOver", "AwaitingApproval"));
  world.cluster.erase(VM_RESTORES, TENANT, "orders-db");
  const waiting = await play(world, reasonIs("TornDown", "MachineDependsOnAgent"));
  expect(waiting?.status?.message).toMatch(/set spec\.deletionPolicy to Discard/);
  await settle(world);
  expect(world.cluster.all(STATEFUL_SETS)).toHaveLength(1);
  expect(world.cluster.all(INSTANCES)).toHaveLength(1);
  // Relocation is of no use any more.
  expect(world.cluster.all(JOBS)).toEqual([]);
  world.cluster.erase(VIRTUAL_MACHINES, TENANT, "orders-db");
  await play(world, (restore) => restore === undefined);
  expect(leftovers(world)).toEqual([]);
});

test("with Discard the machine goes with the restore, before the agent does", async () => {
  const world = new World();
  world.restore({ ...relocation({ cutover: {} }), deletionPolicy: "Discard" });
  await play(world, reasonIs("CutOver", "AwaitingApproval"));
  world.cluster.erase(VM_RESTORES, TENANT, "orders-db");
  world.cluster.onWrite = (write) => {
    if (write.verb === "delete" && write.namespace === OWN) expect(world.cluster.all(INSTANCES)).toEqual([]);
  };
  await play(world, (restore) => restore === undefined);
  expect(world.cluster.all(VIRTUAL_MACHINES)).toEqual([]);
  expect(world.told).toContain("unpin");
  expect(leftovers(world)).toEqual([]);
});

test("deleting a restore in the middle of its cutover brings the cutover to its end", async () => {
  const world = new World();
  world.restore();
  await play(world, reasonIs("CutOver", "FinalPass"));
  world.cluster.erase(VM_RESTORES, TENANT, "orders-db");
  await play(world, (restore) => restore === undefined);
  expect(claimOf(world)).toBe("orders-db-root");
  expect(world.cluster.all(INSTANCES)).toHaveLength(1);
  expect(leftovers(world)).toEqual(["PersistentVolumeClaim/default/orders-db-root"]);
});

test("a machine that somebody starts in the middle of its cutover is halted again before it is switched", async () => {
  const world = new World();
  world.restore();
  await play(world, reasonIs("CutOver", "FinalPass"));
  world.cluster.change(VIRTUAL_MACHINES, TENANT, "orders-db", (machine) => {
    machine.spec = { ...machine.spec, runStrategy: "Always" };
  });
  world.step();
  expect(world.cluster.all(INSTANCES)).toHaveLength(1);
  world.cluster.onWrite = ({ type, verb }) => {
    const isRunning = world.cluster.all(INSTANCES).length > 0;
    if (type === VIRTUAL_MACHINES && verb === "update" && isRunning)
      expect(claimOf(world)).toBe("orders-db-root-restoring");
  };
  await play(world, phaseIs("Completed"));
  expect(claimOf(world)).toBe("orders-db-root");
});

test("deleting a restore that never got anywhere leaves nothing", async () => {
  const world = new World();
  world.restore({ source: { repository: { name: "none" }, snapshot: { latest: {} } } });
  await play(world, reasonIs("SourceReady", "RepositoryNotFound"));
  world.cluster.erase(VM_RESTORES, TENANT, "orders-db");
  await play(world, (restore) => restore === undefined);
  expect(leftovers(world)).toEqual([]);
});

test("a live mount stays until it expires, and is then discarded", async () => {
  const world = new World();
  world.restore({ relocation: { strategy: "None" }, liveMount: { expiresAfter: "1h", onExpiry: "Discard" } });
  const running = await play(world, phaseIs("Running"));
  await settle(world);
  expect(running?.status?.strategy).toBe("None");
  expect(world.cluster.all(JOBS)).toEqual([]);
  await world.clock.advance(3600_000);
  const over = await play(world, phaseIs("Completed"));
  expect(conditionOf(over?.status?.conditions, "Completed")?.reason).toBe("Discarded");
  expect(world.cluster.all(VIRTUAL_MACHINES)).toEqual([]);
  expect(leftovers(world)).toEqual([]);
});

test("a live mount that is to be kept outlives its expiry", async () => {
  const world = new World();
  world.restore({ relocation: { strategy: "None" }, liveMount: { expiresAfter: "1h" } });
  await play(world, phaseIs("Running"));
  await world.clock.advance(3600_000);
  const kept = await play(world, reasonIs("Expired", "Kept"));
  expect(kept?.status?.expiresAt).toBeDefined();
  await settle(world);
  expect(world.cluster.all(INSTANCES)).toHaveLength(1);
});

test("a plan that somebody deleted stops everything rather than being made anew", async () => {
  const world = new World();
  world.restore(relocation({ cutover: {} }));
  const restore = await play(world, reasonIs("CutOver", "AwaitingApproval"));
  world.cluster.erase(
    { apiVersion: "v1", kind: "Secret", plural: "secrets", namespaced: true },
    OWN,
    `vmr-${restore?.metadata.uid}-plan`,
  );
  const failed = await play(world, phaseIs("Failed"));
  expect(failed?.status?.message).toMatch(/plan is gone/);
  await settle(world);
  expect(world.cluster.all(STATEFUL_SETS)).toHaveLength(1);
});

test("a second restore of the same machine is refused and harms nothing", async () => {
  const world = new World();
  world.restore(relocation({ cutover: {} }));
  await play(world, reasonIs("CutOver", "AwaitingApproval"));
  const claims = world.cluster.all(CLAIMS).map(({ metadata }) => metadata.uid);
  world.restore({}, "another");
  const operator = operatorIn(world);
  for (let round = 0; round < 10; round++) {
    await operator.reconcile(TENANT, "another");
    world.step();
  }
  expect(restoreIn(world, "another")?.status?.message).toMatch(/There is a VirtualMachine orders-db already/);
  expect(world.cluster.all(CLAIMS).map(({ metadata }) => metadata.uid)).toEqual(claims);
});

/** What a restore made and what is still there; the machine and its profile are meant to stay. */
function leftovers(world: World): string[] {
  return world.cluster
    .keys()
    .filter(
      (key) =>
        !/^(Event|VMRestore|StorageClass|BackupRepository|VirtualMachine|VirtualMachineInstance|VMProfile|Pod)\//.test(
          key,
        ),
    );
}
