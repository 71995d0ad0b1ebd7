import { mkdtemp, rename, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { KubeConfig } from "@kubernetes/client-node";
import { parseAllDocuments } from "yaml";
import type { VMRestore } from "../../src/api/vm-restore.ts";
import { systemClock } from "../../src/base/clock.ts";
import { silentLogger } from "../../src/base/logging.ts";
import { type Lab, startLab } from "../../src/lab/lab.ts";
import { backUp } from "../../src/lab/quickstart/backup.ts";
import { OPERATOR_NAMESPACE, repositoryManifests } from "../../src/lab/quickstart/manifests.ts";
import { ordersDatabase } from "../../src/lab/quickstart/virtual-machine.ts";
import {
  BACKUP_REPOSITORIES,
  CLAIMS,
  PODS,
  SECRETS,
  STATEFUL_SETS,
  VIRTUAL_MACHINES,
  VM_RESTORES,
} from "../../src/operator/kinds.ts";
import { runOperator } from "../../src/operator/run.ts";
import type { Manifest, ResourceType } from "../../src/operator/runtime/objects.ts";
import { RestCluster } from "../../src/operator/runtime/rest-cluster.ts";
import { Transport } from "../../src/operator/runtime/transport.ts";
import { operatorKubeconfig, REPOSITORY_ON_THIS_MACHINE } from "../scenario/operator-account.ts";

// What real restic repositories answer to bad input, as conditions; and that each restore goes on by itself when it is mended.

const ROOT = join(import.meta.dirname, "../..");
const NAMESPACE = "default";
const LIMIT_MS = 90_000;

let folder: string;
let repository: string;
let lab: Lab;
let transport: Transport;
let cluster: RestCluster;
let operator: Promise<void>;
const ending = new AbortController();

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "vmrestore-bad-input-"));
  repository = join(folder, "repository");
  const disk = join(folder, "disk.img");
  await writeFile(disk, "a disk");
  await truncate(disk, 16 * 2 ** 20);
  const passwordFile = join(folder, "password");
  await writeFile(passwordFile, "right", { mode: 0o600 });
  const manifest = ordersDatabase() as { spec: object };
  // Nothing boots here.
  manifest.spec = { ...manifest.spec, runStrategy: "Halted" };
  const signal = AbortSignal.timeout(LIMIT_MS);
  await backUp({
    repository,
    passwordFile,
    disk,
    manifest,
    host: "orders-db",
    scratch: join(folder, "scratch"),
    signal,
  });
  lab = await startLab({
    directory: join(folder, "lab"),
    cliEntry: join(ROOT, "src/cli/main.ts"),
    crds: join(ROOT, "crds"),
  });
  const config = new KubeConfig();
  config.loadFromFile(lab.kubeconfigPath);
  transport = new Transport(config);
  cluster = new RestCluster(transport, new AbortController().signal, "test");
  const place = repositoryManifests({ directory: repository, password: "wrong" });
  for (const document of parseAllDocuments(place)) {
    const object = document.toJS() as Manifest;
    const plural = `${object.kind.toLowerCase()}s`;
    const namespaced = object.metadata.namespace !== undefined;
    await cluster.create({ apiVersion: object.apiVersion, kind: object.kind, plural, namespaced }, object);
  }
  await cluster.create(BACKUP_REPOSITORIES, {
    apiVersion: "vmrestore.io/v1alpha1",
    kind: "BackupRepository",
    metadata: { name: "nightly", namespace: NAMESPACE },
    spec: { local: { claimName: "backups" }, credentialsSecretRef: { name: "nightly-password" } },
  });
  operator = runOperator(
    {
      namespace: OPERATOR_NAMESPACE,
      image: "vmrestore",
      kubeconfig: await operatorKubeconfig(lab, REPOSITORY_ON_THIS_MACHINE),
      listen: { host: "127.0.0.1", port: 0 },
      logger: silentLogger,
    },
    ending.signal,
  );
}, LIMIT_MS);

afterAll(async () => {
  ending.abort();
  await operator;
  transport.close();
  await lab.close();
  await rm(folder, { recursive: true, force: true, maxRetries: 5 });
}, LIMIT_MS);

const SOURCE = { repository: { name: "nightly" }, snapshot: { latest: { host: "orders-db" } } };

async function restore(name: string, source: object = SOURCE): Promise<void> {
  const spec = { source, virtualMachine: { name }, deletionPolicy: "Discard" };
  const metadata = { name, namespace: NAMESPACE };
  await cluster.apply(VM_RESTORES, { apiVersion: "vmrestore.io/v1alpha1", kind: "VMRestore", metadata, spec });
}

async function until<T>(what: () => Promise<T | undefined>): Promise<T> {
  const end = systemClock.monotonic() + LIMIT_MS / 2;
  for (;;) {
    const found = await what();
    if (found !== undefined) return found;
    if (systemClock.monotonic() > end) throw new Error("it never came to that");
    await systemClock.sleep(100);
  }
}

const conditionOf = (name: string, is: (condition: { type: string; status: string; reason: string }) => boolean) =>
  until(async () => (await cluster.get<VMRestore>(VM_RESTORES, NAMESPACE, name))?.status?.conditions?.find(is));

/** It waits with that reason, and has made nothing. */
async function refused(name: string, reason: string): Promise<string> {
  const condition = await conditionOf(name, (candidate) => candidate.reason === reason);
  expect(condition.status).toBe("False");
  for (const type of [STATEFUL_SETS, VIRTUAL_MACHINES] as ResourceType[])
    expect(await cluster.list(type, undefined)).toEqual([]);
  expect((await cluster.list(CLAIMS, NAMESPACE)).map(({ metadata }) => metadata.name)).toEqual(["backups"]);
  return condition.message;
}

/** It got over it: the agent serves, and the machine is made. Then it is discarded. */
async function recovered(name: string): Promise<void> {
  await conditionOf(name, ({ type, status }) => type === "VirtualMachineCreated" && status === "True");
  const object = await cluster.get(VM_RESTORES, NAMESPACE, name);
  if (object !== undefined) await cluster.delete(VM_RESTORES, object);
  await until(async () => ((await cluster.get(VM_RESTORES, NAMESPACE, name)) === undefined ? true : undefined));
  expect(await cluster.list(STATEFUL_SETS, undefined)).toEqual([]);
  expect((await cluster.list(CLAIMS, NAMESPACE)).map(({ metadata }) => metadata.name)).toEqual(["backups"]);
}

test(
  "a wrong password",
  async () => {
    await restore("a");
    await until(async () => {
      const found = await cluster.get(BACKUP_REPOSITORIES, NAMESPACE, "nightly");
      return found?.status?.conditions?.find(({ reason }) => reason === "RepositoryWrongPassword");
    });
    const waiting = await until(async () => {
      const found = await cluster.get<VMRestore>(VM_RESTORES, NAMESPACE, "a");
      return found?.status?.message?.includes("Correct the password") ? found.status : undefined;
    });
    expect(waiting.phase).toBe("Pending");
    await refused("a", "RepositoryNotReady");
    await cluster.apply(SECRETS, {
      apiVersion: "v1",
      kind: "Secret",
      metadata: { name: "nightly-password", namespace: NAMESPACE },
      data: { password: Buffer.from("right").toString("base64") },
    });
    await recovered("a");
  },
  LIMIT_MS,
);

test(
  "a command that fails: its pod tells why",
  async () => {
    const metadata = { name: "fails", namespace: NAMESPACE };
    const container = {
      name: "a",
      image: "vmrestore",
      command: ["vmrestore", "relocate"],
      args: ["--agent", "127.0.0.1"],
    };
    const containers = [{ ...container, terminationMessagePolicy: "FallbackToLogsOnError" }];
    await cluster.create(PODS, {
      apiVersion: "v1",
      kind: "Pod",
      metadata,
      spec: { restartPolicy: "Never", containers },
    });
    const message = await until(async () => {
      const pod = await cluster.get(PODS, NAMESPACE, "fails");
      return pod?.status?.containerStatuses?.[0]?.state?.terminated?.message;
    });
    expect(message).toMatch(/required option '--tls-dir/);
  },
  LIMIT_MS,
);

test(
  "an unknown snapshot",
  async () => {
    await restore("b", { ...SOURCE, snapshot: { id: "deadbeef" } });
    expect(await refused("b", "SnapshotNotFound")).toMatch(/`restic snapshots` lists them/);
    await restore("b");
    await recovered("b");
  },
  LIMIT_MS,
);

test(
  "a disk path that is not in the snapshot",
  async () => {
    await restore("c", { ...SOURCE, disks: [{ name: "root", path: "/disks/rood.img" }] });
    expect(await refused("c", "PathNotFound")).toMatch(/\/disks holds: root\.img\./);
    await restore("c");
    await recovered("c");
  },
  LIMIT_MS,
);

test(
  "a repository that is away",
  async () => {
    const config = join(repository, "config");
    await rename(config, `${config}.away`);
    await restore("d");
    expect(await refused("d", "RepositoryNotFound")).toMatch(/Check the path, and that its volume is mounted/);
    await rename(`${config}.away`, config);
    await recovered("d");
  },
  LIMIT_MS,
);
