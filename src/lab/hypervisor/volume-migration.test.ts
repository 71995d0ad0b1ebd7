import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, test } from "@jest/globals";
import type { KubernetesObject, ResourceType } from "../../operator/runtime/objects.ts";
import { PODS, STORAGE_CLASSES } from "../controllers/kinds.ts";
import type { LabContext } from "../controllers/lab-controller.ts";
import { FOLDER_PROVISIONER } from "../controllers/volume-binder.ts";
import { Hypervisor } from "./hypervisor.ts";
import {
  hasCondition,
  INSTANCES,
  MIGRATIONS,
  type Migration,
  VIRTUAL_MACHINES,
  type VirtualMachine,
  type VirtualMachineInstance,
} from "./kinds.ts";
import { until as comesTo, NAMESPACE, page as pageAt, TinyMachineLab } from "./testing/tiny-machine.ts";

const NODES: ResourceType = { apiVersion: "v1", kind: "Node", plural: "nodes", namespaced: false };
const KUBEVIRTS: ResourceType = {
  apiVersion: "kubevirt.io/v1",
  kind: "KubeVirt",
  plural: "kubevirts",
  namespaced: true,
};

let lab: TinyMachineLab;
let context: LabContext;
let running: Promise<void>;
let last = 10;

beforeAll(async () => {
  lab = await TinyMachineLab.start();
  ({ context } = lab);
  const { cluster } = context;
  for (const name of ["node-1", "node-2"])
    await cluster.apply(NODES, {
      ...{ apiVersion: "v1", kind: "Node", metadata: { name, labels: { "kubevirt.io/schedulable": "true" } } },
    });
  await cluster.apply(STORAGE_CLASSES, {
    ...{ apiVersion: "storage.k8s.io/v1", kind: "StorageClass", metadata: { name: "fast" } },
    ...{ provisioner: FOLDER_PROVISIONER, reclaimPolicy: "Delete", volumeBindingMode: "Immediate" },
  });
  const hypervisor = new Hypervisor(
    {
      ...{ nodeName: "node-1", directory: join(lab.directory, "consoles"), migrationBackoffMs: 2000 },
      nextAddress: async () => `127.97.${process.pid % 250}.${++last}`,
      accelerator: async () => "tcg",
    },
    context,
  );
  running = hypervisor.run(lab.ending.signal);
  await lab.claimDisk("shared", "128Mi");
  await lab.createMachine("orders", "shared");
  await until("running", async () => hasCondition(await machine(), "AgentConnected"));
}, 120_000);

afterEach(() => limitBandwidth("0"));

afterAll(() => lab.close(running));

const until = <T>(what: string, look: () => Promise<T | undefined | false>): Promise<T> =>
  comesTo(what, look, async () => ({
    machine: (await machine())?.status,
    instance: (await instance())?.status,
    migrations: (await migrations()).map(({ status }) => status),
  }));
const target = (name: string, storage = "160Mi"): Promise<void> =>
  lab.claim(name, { accessModes: ["ReadWriteOnce"], storageClassName: "fast" }, storage);
const machine = (): Promise<VirtualMachine | undefined> => context.cluster.get(VIRTUAL_MACHINES, NAMESPACE, "orders");
const instance = (): Promise<VirtualMachineInstance | undefined> => context.cluster.get(INSTANCES, NAMESPACE, "orders");
const migrations = async (): Promise<Migration[]> =>
  (await context.cluster.list(MIGRATIONS, NAMESPACE, "kubevirt.io/volume-update-migration=orders")).sort((a, b) =>
    `${a.metadata.creationTimestamp}`.localeCompare(`${b.metadata.creationTimestamp}`),
  );

/** Points the machine's volume at another claim, as one who wants it migrated. */
const moveTo = (claimName: string): Promise<void> =>
  lab.change("orders", (spec) => {
    const volumes = [{ name: "root", persistentVolumeClaim: { claimName } }];
    const template = { ...spec.template, spec: { ...spec.template.spec, volumes } };
    return { ...spec, updateVolumesStrategy: "Migration", template };
  });

async function limitBandwidth(bandwidthPerMigration: string): Promise<void> {
  const metadata = { name: "kubevirt", namespace: "kubevirt" };
  const spec = {
    configuration: { vmRolloutStrategy: "LiveUpdate", migrations: { bandwidthPerMigration } },
    workloadUpdateStrategy: { workloadUpdateMethods: ["LiveMigrate"] },
  };
  await context.cluster.apply(KUBEVIRTS, { apiVersion: "kubevirt.io/v1", kind: "KubeVirt", metadata, spec });
}

const page = (): Promise<string> =>
  until("the page", async () => pageAt((await instance())?.status?.interfaces?.[0]?.ipAddress ?? ""));

const conditionOf = (object: { status?: { conditions?: { type: string }[] } } | undefined, type: string) =>
  object?.status?.conditions?.find((condition) => condition.type === type);

test("a migration is called off by setting the claims back, and the machine runs on where it was", async () => {
  await limitBandwidth("4Mi");
  await target("first");
  await moveTo("first");
  await until("it runs", async () => (await migrations()).some(({ status }) => status?.phase === "Running"));
  const moving = await instance();
  // The target is shown at once: that is no sign of success.
  expect(moving?.spec.volumes).toEqual([{ name: "root", persistentVolumeClaim: { claimName: "first" } }]);
  expect(moving?.status).toMatchObject({
    migratedVolumes: [
      { volumeName: "root", sourcePVCInfo: { claimName: "shared" }, destinationPVCInfo: { claimName: "first" } },
    ],
    migrationState: { sourceNode: "node-1", targetNode: "node-2", mode: "PreCopy" },
    nodeName: "node-1",
  });
  expect(hasCondition(await machine(), "VolumesChange")).toBe(true);
  expect((await machine())?.status?.volumeUpdateState?.volumeMigrationState?.migratedVolumes).toHaveLength(1);
  await moveTo("third");
  await until("refused", async () => hasCondition(await machine(), "Failure"));
  expect(conditionOf(await machine(), "Failure")).toMatchObject({
    reason: "VolumesUpdateError",
    message: expect.stringContaining("can only be reverted"),
  });
  await moveTo("shared");
  await until("called off", async () => (await instance())?.status?.migrationState?.abortStatus === "Succeeded");
  await until("the migration is gone", async () =>
    (await migrations()).every(({ status }) => status?.phase === "Failed"),
  );
  const after = await instance();
  expect(after?.metadata.uid).toBe(moving?.metadata.uid);
  expect(conditionOf(after, "VolumesChange")).toMatchObject({ status: "False", reason: "VolumesChangeCancellation" });
  expect(after?.status?.migratedVolumes ?? []).toEqual([]);
  expect((await machine())?.status?.volumeUpdateState).toBeUndefined();
  expect(await page()).toBe("hostname=tiny boots=1\n");
}, 90_000);

test("a target that is missing, too small or killed stops nothing: it is tried again, with a pause, until it goes well", async () => {
  await moveTo("small");
  await until("missing", async () =>
    (await instance())?.status?.conditions?.some(
      ({ type, status, message }) =>
        type === "VolumesChange" && status === "False" && message?.includes("doesn't exist") === true,
    ),
  );
  await target("small", "64Mi");
  const failed = await until("it failed", async () =>
    (await migrations()).find(
      ({ status }) => status?.phase === "Failed" && status.migrationState?.failureReason?.includes("smaller") === true,
    ),
  );
  expect(failed.status?.migrationState?.failureReason).toMatch(/destination volume is smaller than the source volume/);
  expect(hasCondition(await instance(), "VolumesChange")).toBe(true);
  await until("another one waits", async () => (await migrations()).some(({ status }) => status?.phase === "Pending"));
  await moveTo("shared");
  await until("called off", async () => !hasCondition(await instance(), "VolumesChange"));

  await limitBandwidth("8Mi");
  await target("second");
  await moveTo("second");
  const running = await until("it runs", async () =>
    (await migrations()).find(({ status }) => status?.phase === "Running"),
  );
  const { targetPod = "" } = (await instance())?.status?.migrationState ?? {};
  await context.cluster.delete(PODS, (await context.cluster.get(PODS, NAMESPACE, targetPod)) as KubernetesObject);
  await until(
    "it failed",
    async () => (await context.cluster.get(MIGRATIONS, NAMESPACE, running.metadata.name))?.status?.phase === "Failed",
  );
  expect(await page()).toBe("hostname=tiny boots=1\n");
  const before = await instance();
  await limitBandwidth("0");
  await until("moved", async () => !hasCondition(await instance(), "VolumesChange"));
  const moved = await until("completed", async () => {
    const found = await instance();
    return found?.status?.migrationState?.completed === true && found;
  });
  expect(moved.metadata.uid).toBe(before?.metadata.uid);
  expect(moved.status).toMatchObject({
    nodeName: "node-2",
    migrationState: { targetNodeDomainReadyTimestamp: expect.any(String) },
  });
  expect(moved.status?.migratedVolumes ?? []).toEqual([]);
  expect(await until("the page", page)).toBe("hostname=tiny boots=1\n");
  await until("the agent", async () => hasCondition(await instance(), "AgentConnected"));
  await until(
    "the source is over",
    async () =>
      (await context.cluster.get(PODS, NAMESPACE, moved.status?.migrationState?.sourcePod ?? ""))?.status?.phase ===
      "Succeeded",
  );
  // What the machine's status says of it stays until the strategy is taken away.
  expect((await machine())?.status?.volumeUpdateState).toBeDefined();
  await lab.change("orders", ({ updateVolumesStrategy: _, ...spec }) => spec);
  await until("forgotten", async () => (await machine())?.status?.volumeUpdateState === undefined);
}, 120_000);

test("a machine that is stopped meanwhile is not started until its claims are set back", async () => {
  await limitBandwidth("4Mi");
  await target("third");
  await moveTo("third");
  await until("it runs", async () => (await migrations()).some(({ status }) => status?.phase === "Running"));
  await lab.change("orders", (spec) => ({ ...spec, runStrategy: "Halted" }));
  await until("stopped", async () => (await instance()) === undefined);
  await until("told", async () => hasCondition(await machine(), "ManualRecoveryRequired"));
  await until("its migrations are gone", async () => (await migrations()).length === 0);
  await lab.change("orders", (spec) => ({ ...spec, runStrategy: "Always" }));
  await new Promise((resolve) => setTimeout(resolve, 500));
  expect(await instance()).toBeUndefined();
  await moveTo("second");
  await until("it starts again", async () => hasCondition(await instance(), "AgentConnected"));
  expect(hasCondition(await machine(), "ManualRecoveryRequired")).toBe(false);
  expect(await page()).toBe("hostname=tiny boots=2\n");
}, 90_000);
