import { beforeEach, expect, test } from "@jest/globals";
import { conditionOf } from "../conditions.ts";
import {
  CLAIMS,
  CONFIG_MAPS,
  CONTROLLER_REVISIONS,
  JOBS,
  type Job,
  NETWORK_ATTACHMENTS,
  PODS,
  SECRETS,
  VIRTUAL_MACHINES,
  VM_RESTORES,
} from "../kinds.ts";
import { settle } from "./testing/course.ts";
import { fullManifest, LAN, revision } from "./testing/full-manifest.ts";
import { Crash, phaseIs, play, restoreIn } from "./testing/run.ts";
import { TENANT, World } from "./testing/world.ts";

const secret = (name: string, value: string, more: object = {}) => ({
  apiVersion: "v1",
  kind: "Secret",
  metadata: { name, labels: { "app.kubernetes.io/name": "evil" }, ownerReferences: [{ uid: "x" }] },
  data: { userData: Buffer.from(value).toString("base64") },
  ...more,
});
const settings = { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "settings" }, data: { a: "b" } };
const large = revision("orders-db-large-1", "VirtualMachineInstancetype", {
  cpu: { guest: 4 },
  memory: { guest: "8Gi" },
  annotations: { "hooks.kubevirt.io/hookSidecars": "[{}]" },
});
const windows = revision("orders-db-windows-1", "VirtualMachinePreference", {
  devices: { preferredDiskBus: "virtio" },
});
const EVERYTHING = [secret("init", "#cloud-config"), secret("ssh-keys", "ssh"), settings, large, windows];

let world: World;

beforeEach(() => {
  world = new World();
  world.backUp("root", "data");
  const full = fullManifest();
  world.backedUp = { ...full, spec: { ...full.spec, runStrategy: "Always" } };
  world.cluster.put(NETWORK_ATTACHMENTS, LAN);
});

const inTenant = (object: object & { metadata: object }) => ({
  ...object,
  metadata: { ...object.metadata, namespace: TENANT },
});
const machine = () => world.cluster.peek(VIRTUAL_MACHINES, TENANT, "orders-db");
const reasonIs = (reason: string) => () =>
  conditionOf(restoreIn(world)?.status?.conditions, "VirtualMachineCreated")?.reason === reason;
const states = () =>
  Object.fromEntries((restoreIn(world)?.status?.machine?.references ?? []).map(({ name, state }) => [name, state]));
const message = () => conditionOf(restoreIn(world)?.status?.conditions, "VirtualMachineCreated")?.message ?? "";

test("what the snapshot carries for the machine is made before it, with nothing of the backup's metadata", async () => {
  world.objects = EVERYTHING;
  world.restore();
  world.cluster.onWrite = ({ type, verb }) => {
    if (type === VIRTUAL_MACHINES && verb === "create" && machine() === undefined) {
      expect(world.cluster.peek(SECRETS, TENANT, "init")).toBeDefined();
      expect(world.cluster.peek(CLAIMS, TENANT, "persistent-state-for-orders-db")).toBeDefined();
    }
  };
  await play(world, () => machine() !== undefined);
  const made = world.cluster.peek(SECRETS, TENANT, "init");
  expect(made).toMatchObject({ type: "Opaque", data: { userData: Buffer.from("#cloud-config").toString("base64") } });
  expect(JSON.stringify(made)).not.toContain("evil");
  expect(made?.metadata.ownerReferences).toBeUndefined();
  expect(world.cluster.peek(CONFIG_MAPS, TENANT, "settings")).toMatchObject({ data: { a: "b" } });
  const { instancetype, preference } = (machine()?.spec ?? {}) as Record<string, { revisionName: string }>;
  expect(world.cluster.peek(CONTROLLER_REVISIONS, TENANT, instancetype?.revisionName ?? "")).toMatchObject({
    revision: 1,
    metadata: { labels: { "instancetype.kubevirt.io/object-kind": "VirtualMachineInstancetype" } },
    data: { spec: { cpu: { guest: 4 }, memory: { guest: "8Gi" } } },
  });
  expect(JSON.stringify(world.cluster.all(CONTROLLER_REVISIONS))).not.toContain("hookSidecars");
  await play(world, () => Object.keys(states()).length > 0);
  expect(states()).toEqual({
    init: "Created",
    "ssh-keys": "Created",
    settings: "Created",
    pull: "Missing",
    [instancetype?.revisionName ?? ""]: "Created",
    [preference?.revisionName ?? ""]: "Created",
    "persistent-state-for-orders-db": "Created",
  });
  expect(restoreIn(world)?.status?.machine?.leftOut).toEqual(["volume dump"]);
});

test("KubeVirt finds the claim for TPM and firmware state, in the class of the target", async () => {
  world.objects = EVERYTHING;
  world.restore();
  await play(world, () => machine() !== undefined);
  const claim = world.cluster.peek(CLAIMS, TENANT, "persistent-state-for-orders-db");
  expect(claim).toMatchObject({
    metadata: { labels: { "persistent-state-for": "orders-db" } },
    spec: { storageClassName: "fast", volumeMode: "Filesystem", resources: { requests: { storage: "10Mi" } } },
  });
  await play(world, phaseIs("Completed"));
  expect(message()).toContain("begins with an empty one");
});

test("what is there already is used and never changed, and where it differs that is said", async () => {
  world.objects = EVERYTHING;
  world.cluster.put(SECRETS, inTenant(secret("init", "#cloud-config", { type: "Opaque" })));
  world.cluster.put(SECRETS, inTenant(secret("ssh-keys", "rotated")));
  world.cluster.put(SECRETS, inTenant(secret("pull", "registry")));
  world.restore();
  await play(world, phaseIs("Completed"));
  expect(states()).toMatchObject({ init: "Same", "ssh-keys": "Differs", pull: "Found" });
  expect(message()).toContain("Secret ssh-keys is not as in the backup, and it is left as it is.");
  const written = world.cluster.writes.filter(
    ({ namespace, name }) => namespace === TENANT && /init|ssh|pull/.test(name),
  );
  expect(written).toEqual([]);
});

test("a machine is not made without what it needs, and is as soon as that is there", async () => {
  world.objects = [settings, large, windows, secret("ssh-keys", "ssh")];
  world.restore();
  await play(world, reasonIs("ReferenceNotFound"));
  expect(message()).toMatch(
    /^Secret init, which the machine needs, is neither in the snapshot nor in this namespace\. Create it\.$/,
  );
  expect(machine()).toBeUndefined();
  expect(world.cluster.peek(CONFIG_MAPS, TENANT, "settings")).toBeUndefined();
  world.cluster.put(SECRETS, inTenant(secret("init", "#cloud-config")));
  await play(world, phaseIs("Completed"));
  // They belong to the machine now.
  expect(world.cluster.peek(CONFIG_MAPS, TENANT, "settings")).toBeDefined();
});

test("an instancetype's revision that nobody has stops the restore, unless the present one will do", async () => {
  world.objects = EVERYTHING.filter((object) => object !== large);
  world.restore();
  await play(world, reasonIs("RevisionNotFound"));
  expect(message()).toContain("spec.virtualMachine.instancetypeRevisions: Current");
  world.cluster.change(VM_RESTORES, TENANT, "orders-db", (restore) => {
    const spec = restore.spec as { virtualMachine: object };
    restore.spec = { ...spec, virtualMachine: { ...spec.virtualMachine, instancetypeRevisions: "Current" } };
  });
  await play(world, phaseIs("Completed"));
  expect(JSON.stringify(machine()?.spec)).not.toContain("revisionName");
});

test.each([
  ["a ServiceAccount's token", secret("init", "x", { type: "kubernetes.io/service-account-token" })],
  ["content that is no base64", { ...secret("init", "x"), data: { userData: "§" } }],
  ["keys that lead out of the volume", { ...secret("init", "x"), data: { "../../etc": "eA==" } }],
  ["another kind of that name", { ...secret("init", "x"), kind: "Pod" }],
])("%s out of a backup is not made", async (_, object) => {
  world.objects = [...EVERYTHING.slice(1), object];
  world.restore();
  await play(world, reasonIs("ReferenceNotFound"));
  expect(world.cluster.peek(SECRETS, TENANT, "init")).toBeUndefined();
});

test("a clone has its own copy of the original's revisions: those go when the original does", async () => {
  world.objects = EVERYTHING.filter(({ kind }) => kind !== "ControllerRevision");
  const ownerReferences = [{ uid: "original", kind: "VirtualMachine", name: "orders-db" }];
  for (const object of [large, windows]) {
    world.cluster.put(CONTROLLER_REVISIONS, inTenant({ ...object, metadata: { ...object.metadata, ownerReferences } }));
  }
  world.restore();
  await play(world, phaseIs("Completed"));
  for (const { metadata } of [large, windows]) world.cluster.erase(CONTROLLER_REVISIONS, TENANT, metadata.name);
  const { instancetype } = (machine()?.spec ?? {}) as Record<string, { revisionName: string }>;
  const own = world.cluster.peek(CONTROLLER_REVISIONS, TENANT, instancetype?.revisionName ?? "");
  expect(own).toMatchObject({ data: { kind: "VirtualMachineInstancetype", spec: { cpu: { guest: 4 } } } });
  expect(own?.metadata.ownerReferences).toBeUndefined();
});

test("a revision that could be a StatefulSet's is none of an instancetype", async () => {
  const pods = { ...large, data: { spec: { template: { spec: { containers: [] } } } } };
  world.objects = [...EVERYTHING.filter((object) => object !== large), pods];
  world.restore();
  await play(world, reasonIs("RevisionNotFound"));
  expect(world.cluster.all(CONTROLLER_REVISIONS)).toEqual([]);
});

test("only what the machine refers to is made of what the snapshot carries", async () => {
  world.objects = [...EVERYTHING, secret("bootstrap", "evil")];
  world.restore();
  await play(world, phaseIs("Completed"));
  expect(world.cluster.peek(SECRETS, TENANT, "bootstrap")).toBeUndefined();
});

test("what was made for a machine goes with it when it is discarded, what was there stays", async () => {
  world.objects = EVERYTHING;
  world.cluster.put(SECRETS, inTenant(secret("init", "#cloud-config", { type: "Opaque" })));
  world.restore({ deletionPolicy: "Discard", relocation: { strategy: "None" } });
  await play(world, phaseIs("Running"));
  expect(world.cluster.peek(SECRETS, TENANT, "ssh-keys")).toBeDefined();
  world.cluster.erase(VM_RESTORES, TENANT, "orders-db");
  await play(world, (restore) => restore === undefined);
  expect(world.cluster.keys().filter((key) => key.includes(`/${TENANT}/`) && !key.startsWith("Event/"))).toEqual([
    "BackupRepository/default/nightly",
    "Secret/default/init",
  ]);
});

test("a restore that is deleted before its machine was made leaves nothing of it", async () => {
  world.objects = EVERYTHING;
  world.restore();
  let made = false;
  world.cluster.onWrite = ({ type, verb }, moment) => {
    if (type === VIRTUAL_MACHINES && verb === "create" && moment === "before") throw new Error("refused by a webhook");
    made ||= type === CONFIG_MAPS && verb === "create";
  };
  await expect(play(world, () => false)).rejects.toThrow("refused by a webhook");
  expect(made).toBe(true);
  world.cluster.erase(VM_RESTORES, TENANT, "orders-db");
  await play(world, (restore) => restore === undefined);
  expect(world.cluster.all(CONFIG_MAPS)).toEqual([]);
  expect(world.cluster.peek(SECRETS, TENANT, "ssh-keys")).toBeUndefined();
});

test("a manifest that no machine can be made of is told of before anything is staged for it", async () => {
  world.launchable = false;
  world.restore({ virtualMachine: { name: "orders-db", networks: "Map", networkMap: [{ from: "pod", to: "pod" }] } });
  await play(world, reasonIs("NetworkNotMapped"));
  expect(message()).toContain("infra/lan");
  expect(world.cluster.all(CLAIMS).filter(({ metadata }) => metadata.namespace === TENANT)).toEqual([]);
});

test("a network that is not there is told before the machine is made, and another one can be taken", async () => {
  world.objects = EVERYTHING;
  world.cluster.erase(NETWORK_ATTACHMENTS, "infra", "lan");
  world.restore();
  await play(world, reasonIs("NetworkNotFound"));
  expect(message()).toContain("There is no NetworkAttachmentDefinition infra/lan");
  world.cluster.put(NETWORK_ATTACHMENTS, { ...LAN, metadata: { name: "isolated", namespace: TENANT } });
  const networkMap = [
    { from: "pod", to: "none" },
    { from: "*", to: "isolated" },
  ];
  world.cluster.change(VM_RESTORES, TENANT, "orders-db", (restore) => {
    const spec = restore.spec as { virtualMachine: object };
    restore.spec = { ...spec, virtualMachine: { ...spec.virtualMachine, networks: "Map", networkMap } };
  });
  await play(world, phaseIs("Completed"));
  expect(machine()?.spec?.template?.spec?.networks).toEqual([{ name: "lan", multus: { networkName: "isolated" } }]);
});

test("an address that another machine has is refused before anything is made, or made anew where that is asked for", async () => {
  world.objects = EVERYTHING;
  const original = fullManifest();
  world.cluster.put(VIRTUAL_MACHINES, { ...original, metadata: { name: "original", namespace: "shop" } });
  world.restore();
  await play(world, reasonIs("MacAddressInUse"));
  expect(message()).toContain("02:5a:17:00:00:22 is that of VirtualMachine shop/original");
  expect(message()).toContain("macAddresses to Regenerate");
  expect(world.cluster.peek(CONFIG_MAPS, TENANT, "settings")).toBeUndefined();
  world.cluster.change(VM_RESTORES, TENANT, "orders-db", (restore) => {
    const spec = restore.spec as { virtualMachine: object };
    restore.spec = { ...spec, virtualMachine: { ...spec.virtualMachine, macAddresses: "Regenerate" } };
  });
  await play(world, phaseIs("Completed"));
  expect(JSON.stringify(machine())).not.toContain("macAddress");
});

test("all machines of the cluster are looked at once, and only for a machine with an address that others see", async () => {
  const lists = () =>
    world.cluster.reads.filter(({ type, verb }) => type === VIRTUAL_MACHINES && verb === "list").length;
  world.objects = EVERYTHING;
  world.restore();
  await play(world, phaseIs("Completed"));
  expect(lists()).toBeLessThanOrEqual(2);
  world = new World();
  world.restore();
  await play(world, phaseIs("Completed"));
  expect(lists()).toBe(0);
});

test("a machine beside one with its UUID is told of it", async () => {
  world.objects = EVERYTHING;
  const { spec } = fullManifest();
  const nics = [{ name: "lan", bridge: {}, macAddress: "02:00:00:00:00:01" }];
  const { template } = spec;
  const { domain } = template.spec;
  const devices = { ...domain.devices, interfaces: nics };
  const twin = { ...spec, template: { ...template, spec: { ...template.spec, domain: { ...domain, devices } } } };
  const metadata = { name: "original", namespace: "shop" };
  world.cluster.put(VIRTUAL_MACHINES, { apiVersion: "kubevirt.io/v1", kind: "VirtualMachine", metadata, spec: twin });
  world.restore();
  await play(world, phaseIs("Completed"));
  expect(message()).toContain("It has the firmware UUID of VirtualMachine shop/original.");
});

const STATE = [{ path: "nvram/orders-db_VARS.fd", size: 540_672 }];
const stateClaim = () => world.cluster.peek(CLAIMS, TENANT, "persistent-state-for-orders-db");
const stateJob = () => world.cluster.all<Job>(JOBS).find(({ metadata }) => metadata.name.endsWith("-state"));

test("TPM and firmware state is on its claim before the machine starts, and nothing is left of what put it there", async () => {
  world.objects = EVERYTHING;
  world.stateFiles = STATE;
  world.restore();
  await play(world, () => stateJob() !== undefined);
  const pod = JSON.stringify(stateJob());
  expect(pod).toContain('"claimName":"persistent-state-for-orders-db"');
  expect(pod).toContain('"--agent","10.0.0.7"');
  expect(pod).toContain('"--backed-up-as","orders-db","--machine","orders-db"');
  world.cluster.onWrite = ({ type, verb }, moment) => {
    if (type !== VIRTUAL_MACHINES || verb !== "create" || moment !== "before") return;
    expect(restoreIn(world)?.status?.machine?.stateRestored).toBe(true);
    expect(stateJob()).toBeUndefined();
    expect(world.cluster.keys().filter((key) => /^Secret.default.vmr-.*-state$/.test(key))).toEqual([]);
  };
  await play(world, phaseIs("Completed"));
  expect(message()).not.toContain("empty");
});

test("a machine with a new UUID is told to have a new TPM", async () => {
  world.objects = EVERYTHING;
  world.stateFiles = STATE;
  world.restore({ virtualMachine: { name: "orders-db", firmwareIdentity: "Regenerate" } });
  await play(world, phaseIs("Completed"));
  expect(message()).toContain("Its TPM begins empty");
});

test("a machine does not start with another TPM because its state could not be put back: that is told, and tried again", async () => {
  world.objects = EVERYTHING;
  world.stateFiles = STATE;
  world.stateJobFails = true;
  world.restore();
  await play(world, reasonIs("StateNotRestored"));
  const first = stateJob()?.metadata.uid;
  await play(world, () => stateJob() !== undefined && stateJob()?.metadata.uid !== first);
  expect(machine()).toBeUndefined();
  world.stateJobFails = false;
  await play(world, phaseIs("Completed"));
});

test("no machine starts while a pod of the Job that puts state back is still ending: it could write old state over new", async () => {
  world.objects = EVERYTHING;
  world.stateFiles = STATE;
  world.restore();
  await play(world, () => stateJob() !== undefined);
  const job = stateJob();
  expect(job).toMatchObject({ spec: { podReplacementPolicy: "Failed" } });
  const base = job?.metadata.name ?? "";
  const name = `${base}-9`;
  world.cluster.put(PODS, {
    ...{ apiVersion: "v1", kind: "Pod", spec: {}, status: { phase: "Running" } },
    metadata: {
      ...{ name, namespace: TENANT, finalizers: ["example.org/node-does-not-answer"] },
      labels: { ...job?.metadata.labels, "job-name": base },
    },
  });
  await settle(world, 30);
  expect(stateJob()).toBeUndefined();
  expect(machine()).toBeUndefined();
  world.cluster.change(PODS, TENANT, name, ({ metadata }) => {
    metadata.finalizers = [];
  });
  world.cluster.erase(PODS, TENANT, name);
  await play(world, phaseIs("Completed"));
});

test("why the Job that puts state back does not run is told", async () => {
  world.objects = EVERYTHING;
  world.stateFiles = STATE;
  world.stateJobWaits = "0/3 nodes are available: 3 node(s) had volume node affinity conflict.";
  world.restore();
  await play(world, (restore) => restore?.status?.message?.includes("volume node affinity conflict") === true);
  expect(machine()).toBeUndefined();
  world.stateJobWaits = undefined;
  await play(world, phaseIs("Completed"));
});

test("a claim that somebody deleted is made and filled again before the machine starts", async () => {
  world.objects = EVERYTHING;
  world.stateFiles = STATE;
  world.restore();
  await play(world, (restore) => restore?.status?.machine?.stateRestored === true);
  world.cluster.erase(CLAIMS, TENANT, "persistent-state-for-orders-db");
  const before = stateClaim();
  await play(world, () => stateJob() !== undefined && stateClaim() !== undefined);
  expect(before).toBeUndefined();
  expect(machine()).toBeUndefined();
  await play(world, phaseIs("Completed"));
  expect(restoreIn(world)?.status?.machine?.stateRestored).toBe(true);
});

test("what was made for a machine that is to be another one now goes again", async () => {
  world.objects = EVERYTHING;
  world.restore();
  let refuses = true;
  world.cluster.onWrite = ({ type, verb }, moment) => {
    if (type === VIRTUAL_MACHINES && verb === "create" && moment === "before" && refuses) throw new Crash();
  };
  await play(world, () => world.cluster.all(CONTROLLER_REVISIONS).length === 2);
  world.cluster.change(VM_RESTORES, TENANT, "orders-db", (restore) => {
    const spec = restore.spec as { virtualMachine: object };
    restore.spec = { ...spec, virtualMachine: { ...spec.virtualMachine, instancetypeRevisions: "Current" } };
  });
  refuses = false;
  await play(world, phaseIs("Completed"));
  expect(world.cluster.all(CONTROLLER_REVISIONS)).toEqual([]);
  expect(world.cluster.peek(CONFIG_MAPS, TENANT, "settings")).toBeDefined();
});

test("state that was there is not overwritten, and that of another manifest is not taken", async () => {
  world.objects = EVERYTHING;
  world.stateFiles = STATE;
  world.cluster.put(CLAIMS, {
    apiVersion: "v1",
    kind: "PersistentVolumeClaim",
    metadata: { name: "persistent-state-for-orders-db", namespace: TENANT },
    spec: {},
  });
  world.restore();
  world.cluster.onWrite = ({ name }) => expect(name).not.toMatch(/-state$/);
  await play(world, phaseIs("Completed"));
  expect(message()).toContain("is what claim persistent-state-for-orders-db held already");
});

test("state on a claim that KubeVirt named itself is found, and no second claim is made beside it", async () => {
  world.objects = EVERYTHING;
  world.stateFiles = STATE;
  const name = "persistent-state-for-orders-db-x7k2p";
  const labels = { "persistent-state-for": "orders-db" };
  const metadata = { name, namespace: TENANT, labels };
  world.cluster.put(CLAIMS, { apiVersion: "v1", kind: "PersistentVolumeClaim", metadata, spec: {} });
  world.restore();
  await play(world, phaseIs("Completed"));
  expect(stateClaim()).toBeUndefined();
  expect(new Set(world.stateUsed)).toEqual(new Set([name]));
  expect(world.faults).toEqual([]);
  expect(message()).toContain(`is what claim ${name} held already`);
});

test("a restore that is discarded while it puts state back leaves nothing of it", async () => {
  world.objects = EVERYTHING;
  world.stateFiles = STATE;
  world.stateJobFails = true;
  world.restore();
  await play(world, reasonIs("StateNotRestored"));
  expect(stateClaim()).toBeDefined();
  world.cluster.erase(VM_RESTORES, TENANT, "orders-db");
  await play(world, (restore) => restore === undefined);
  expect(stateJob()).toBeUndefined();
  expect(stateClaim()).toBeUndefined();
  expect(world.cluster.all(SECRETS)).toEqual([]);
});

test("an operator that dies while it makes what a machine refers to comes to the same end", async () => {
  const kinds = ["Secret", "ConfigMap", "ControllerRevision", "PersistentVolumeClaim", "Job", "VirtualMachine"];
  const run = async (wanted: number, when: "before" | "after") => {
    world = new World();
    world.backUp("root", "data");
    world.backedUp = { ...fullManifest(), spec: { ...fullManifest().spec, runStrategy: "Always" } };
    world.objects = EVERYTHING;
    world.stateFiles = STATE;
    world.cluster.put(NETWORK_ATTACHMENTS, LAN);
    world.restore();
    let seen = 0;
    world.cluster.onWrite = ({ type, namespace, verb }, moment) => {
      if (namespace !== TENANT || verb !== "create" || moment !== when || !kinds.includes(type.kind)) return;
      if (++seen === wanted) throw new Crash();
    };
    await play(world, phaseIs("Completed"));
    const hashed = (text: string) => text.replace(/[0-9a-f]{16}$/, "HASH");
    return {
      writes: seen,
      references: (restoreIn(world)?.status?.machine?.references ?? []).map(({ name, state }) => [hashed(name), state]),
      keys: world.cluster
        .keys()
        .filter((key) => !key.startsWith("Event/"))
        .map(hashed),
    };
  };
  const { writes, ...undisturbed } = await run(0, "before");
  expect(writes).toBeGreaterThan(8);
  for (let wanted = 1; wanted <= writes; wanted++) {
    for (const when of ["before", "after"] as const) {
      const { writes: _, ...state } = await run(wanted, when);
      expect({ wanted, when, ...state }).toEqual({ wanted, when, ...undisturbed });
    }
  }
});
