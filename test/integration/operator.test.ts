import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { parse } from "yaml";
import type { BackupRepository } from "../../src/api/backup-repository.ts";
import { systemClock } from "../../src/base/clock.ts";
import { silentLogger } from "../../src/base/logging.ts";
import { runGarbageCollector } from "../../src/lab/controllers/garbage-collector.ts";
import { runVolumeProtection } from "../../src/lab/controllers/volume-protection.ts";
import { BACKUP_REPOSITORIES, CLAIMS, JOBS, PODS, SECRETS, VM_RESTORES, VOLUMES } from "../../src/operator/kinds.ts";
import { runOperator } from "../../src/operator/run.ts";
import { ApiError } from "../../src/operator/runtime/errors.ts";
import { EVENTS } from "../../src/operator/runtime/event-recorder.ts";
import type { KubernetesObject, Manifest, ResourceType } from "../../src/operator/runtime/objects.ts";
import type { RestCluster } from "../../src/operator/runtime/rest-cluster.ts";
import { operatorKubeconfig } from "../scenario/operator-account.ts";
import { until as comesTo, type OperatorCluster, startOperatorCluster } from "../scenario/operator-cluster.ts";

// The operator, whole, against an API server: what it writes is accepted there, and what it watches wakes it.

const ROOT = join(import.meta.dirname, "../..");
const OWN = "vmrestore-system";
const TENANT = "default";

let folder: string;
let beside: OperatorCluster;
let cluster: RestCluster;
let operator: Promise<void>;
let controllers: Promise<void>[];
const ending = new AbortController();

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "vmrestore-operator-"));
  beside = await startOperatorCluster(folder, OWN);
  ({ cluster } = beside);
  const { transport, plane } = beside;
  // What an API server alone does not do: claims stay protected until somebody sees that no pod uses them.
  const context = { cluster, transport, clock: systemClock, logger: silentLogger };
  controllers = [runVolumeProtection(context, ending.signal), runGarbageCollector(context, ending.signal)];
  operator = runOperator(
    {
      namespace: OWN,
      image: "vmrestore",
      kubeconfig: await operatorKubeconfig(plane),
      listen: { host: "127.0.0.1", port: 0 },
      logger: silentLogger,
    },
    ending.signal,
  );
});

afterAll(async () => {
  ending.abort();
  await operator;
  await Promise.allSettled(controllers);
  await beside.close();
  await rm(folder, { recursive: true, force: true });
});

const until = (what: () => Promise<boolean>) => comesTo(what, 20_000);

/** Waits for an object of which something is true. */
async function when<T extends KubernetesObject>(
  type: ResourceType<T>,
  namespace: string | undefined,
  name: string,
  is: (object: T | undefined) => boolean,
): Promise<T> {
  let object: T | undefined;
  await until(async () => {
    object = await cluster.get(type, namespace, name);
    return is(object);
  });
  return object as T;
}

async function example(file: string, change: object = {}): Promise<Manifest> {
  const parsed = parse(await readFile(join(ROOT, "examples", file), "utf8")) as Manifest;
  return { ...parsed, spec: { ...(parsed.spec as object), ...change } };
}

test("an invalid VMRestore is refused by the server, a valid one gets its defaults there", async () => {
  const bad = await example("vmrestore.yaml", { relocation: { strategy: "Teleport" } });
  await expect(cluster.create(VM_RESTORES, bad)).rejects.toMatchObject({ status: 422 });
  await expect(
    cluster.create(VM_RESTORES, await example("vmrestore.yaml", { virtualMachine: {} })),
  ).rejects.toBeInstanceOf(ApiError);
  const good = await example("vmrestore.yaml");
  await cluster.create(VM_RESTORES, good);
  const made = await cluster.get(VM_RESTORES, TENANT, good.metadata.name);
  expect(made?.spec).toMatchObject({
    deletionPolicy: "Retain",
    launch: { waitForBootSet: true, bootSetTimeout: "30s" },
    relocation: { strategy: "Auto", begin: "GuestReady", cutover: { when: "Automatic", verify: true } },
  });
});

test("a restore waits for its repository, and says so in its status and as an event", async () => {
  const waiting = await when(
    VM_RESTORES,
    TENANT,
    "orders-db",
    (restore) => (restore?.status?.conditions ?? []).length > 0,
  );
  expect(waiting.status?.phase).toBe("Pending");
  const [condition] = waiting.status?.conditions ?? [];
  expect(condition).toMatchObject({
    type: "SourceReady",
    status: "False",
    reason: "RepositoryNotFound",
    observedGeneration: 1,
  });
  expect(waiting.metadata.finalizers).toContain("vmrestore.io/teardown");
  await until(async () => (await cluster.list(EVENTS, TENANT)).some(({ reason }) => reason === "RepositoryNotFound"));
  // Nothing was written since: a status that does not change is not sent.
  await systemClock.sleep(500);
  const later = await cluster.get(VM_RESTORES, TENANT, "orders-db");
  expect(later?.metadata.resourceVersion).toBe(waiting.metadata.resourceVersion);
});

test("a repository's volume and password reach the operator's namespace, and it is checked there", async () => {
  await cluster.create(BACKUP_REPOSITORIES, await example("backuprepository.yaml"));
  await when(BACKUP_REPOSITORIES, TENANT, "nightly", (repository) => readiness(repository) === "SecretNotFound");
  const storage = { storage: "1Gi" };
  await cluster.create(SECRETS, {
    apiVersion: "v1",
    kind: "Secret",
    metadata: { name: "nightly-password", namespace: TENANT },
    data: { password: "c2VjcmV0" },
  });
  await cluster.create(CLAIMS, {
    apiVersion: "v1",
    kind: "PersistentVolumeClaim",
    metadata: { name: "backups", namespace: TENANT },
    spec: {
      storageClassName: "",
      volumeName: "backups",
      accessModes: ["ReadWriteMany"],
      resources: { requests: storage },
    },
  });
  const claim = await cluster.get(CLAIMS, TENANT, "backups");
  await cluster.create(VOLUMES, {
    apiVersion: "v1",
    kind: "PersistentVolume",
    metadata: { name: "backups" },
    spec: {
      capacity: storage,
      accessModes: ["ReadWriteMany"],
      storageClassName: "",
      nfs: { server: "192.0.2.1", path: "/backups" },
      claimRef: {
        apiVersion: "v1",
        kind: "PersistentVolumeClaim",
        namespace: TENANT,
        name: "backups",
        uid: claim?.metadata.uid,
      },
    },
  });
  const repository = await cluster.get(BACKUP_REPOSITORIES, TENANT, "nightly");
  const mounted = `repository-${repository?.metadata.uid}`;
  await when(CLAIMS, OWN, mounted, (object) => object !== undefined);
  const volume = await when(VOLUMES, undefined, mounted, (object) => object !== undefined);
  expect(volume.spec).toMatchObject({
    nfs: { server: "192.0.2.1", path: "/backups" },
    persistentVolumeReclaimPolicy: "Retain",
  });
  expect((await cluster.get(SECRETS, OWN, mounted))?.data).toEqual({ password: "c2VjcmV0" });

  // What a binder and a node do.
  await cluster.applyStatus(CLAIMS, {
    apiVersion: "v1",
    kind: "PersistentVolumeClaim",
    metadata: { name: mounted, namespace: OWN },
    status: { phase: "Bound" },
  });
  const job = await when(JOBS, OWN, mounted, (object) => object !== undefined);
  const found = { repository: { id: "f".repeat(64), version: 2, snapshots: 3, latest: "2026-01-01T00:00:00Z" } };
  const pod = { apiVersion: "v1", kind: "Pod", metadata: { name: "inspection", namespace: OWN } };
  await cluster.create(PODS, {
    ...pod,
    metadata: {
      ...pod.metadata,
      labels: { ...job.metadata.labels, "job-name": mounted },
      ownerReferences: [{ apiVersion: "batch/v1", kind: "Job", name: mounted, uid: job.metadata.uid ?? "" } as never],
    },
    spec: { containers: [{ name: "inspect", image: "vmrestore" }] },
  });
  const terminated = { exitCode: 0, message: JSON.stringify(found) };
  await cluster.applyStatus(PODS, {
    ...pod,
    status: { phase: "Succeeded", containerStatuses: [{ name: "inspect", state: { terminated } }] },
  });
  const ready = await when(BACKUP_REPOSITORIES, TENANT, "nightly", (object) => readiness(object) === "Checked");
  expect(ready.status).toMatchObject({ formatVersion: 2, snapshots: 3, latestSnapshotTime: "2026-01-01T00:00:00Z" });
  // The restore that waited for it goes on by itself.
  await until(async () => (await cluster.list(JOBS, OWN)).some(({ metadata }) => metadata.name.endsWith("-inspect")));
});

test("an S3 repository's keys reach the operator's namespace, and leave it when they leave the tenant's", async () => {
  const s3 = await example("backuprepository-s3.yaml");
  await cluster.create(BACKUP_REPOSITORIES, { ...s3, metadata: { ...s3.metadata, name: "in-s3" } });
  await when(BACKUP_REPOSITORIES, TENANT, "in-s3", (repository) => readiness(repository) === "SecretNotFound");
  const keys = { AWS_ACCESS_KEY_ID: "a2V5", AWS_SECRET_ACCESS_KEY: "c2VjcmV0" };
  const named = { apiVersion: "v1", kind: "Secret", metadata: { name: "nightly-s3", namespace: TENANT } };
  await cluster.create(SECRETS, { ...named, data: { ...keys, AWS_SESSION_TOKEN: "dG9rZW4=" } });
  const repository = await cluster.get(BACKUP_REPOSITORIES, TENANT, "in-s3");
  const copied = `repository-${repository?.metadata.uid}`;
  const copy = { password: "c2VjcmV0", "s3-access-key-id": "a2V5", "s3-secret-access-key": "c2VjcmV0" };
  const first = await when(SECRETS, OWN, copied, (object) => object !== undefined);
  expect(first.data).toEqual({ ...copy, "s3-session-token": "dG9rZW4=" });
  await when(JOBS, OWN, copied, (object) => object !== undefined);

  const secret = await cluster.get(SECRETS, TENANT, "nightly-s3");
  await cluster.delete(SECRETS, secret as KubernetesObject);
  await cluster.create(SECRETS, { ...named, data: keys });
  const second = await when(SECRETS, OWN, copied, (object) => object?.data?.["s3-session-token"] === undefined);
  expect(second.data).toEqual(copy);

  await cluster.delete(BACKUP_REPOSITORIES, repository as KubernetesObject);
  await when(BACKUP_REPOSITORIES, TENANT, "in-s3", (object) => object === undefined);
  expect(await cluster.get(SECRETS, OWN, copied)).toBeUndefined();
});

test("deleting both leaves nothing in the operator's namespace", async () => {
  for (const [type, name] of [
    [VM_RESTORES, "orders-db"],
    [BACKUP_REPOSITORIES, "nightly"],
  ] as const) {
    const object = await cluster.get(type as ResourceType, TENANT, name);
    if (object !== undefined) await cluster.delete(type, object);
    await when(type as ResourceType, TENANT, name, (gone) => gone === undefined);
  }
  for (const type of [CLAIMS, SECRETS, JOBS]) expect(await cluster.list(type as ResourceType, OWN)).toEqual([]);
  expect((await cluster.list(VOLUMES, undefined)).map(({ metadata }) => metadata.name)).toEqual(["backups"]);
});

function readiness(repository: BackupRepository | undefined): string | undefined {
  return repository?.status?.conditions?.find(({ type }) => type === "Ready")?.reason;
}
