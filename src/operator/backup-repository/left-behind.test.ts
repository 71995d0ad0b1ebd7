import { beforeEach, expect, test } from "@jest/globals";
import { alsoReads, LABELS } from "../../api/group.ts";
import { silentLogger } from "../../base/logging.ts";
import { ManualClock } from "../../base/testing/manual-clock.ts";
import { BACKUP_REPOSITORIES, CLAIMS, JOBS, PODS, SECRETS, STATEFUL_SETS, VOLUMES } from "../kinds.ts";
import type { ResourceType } from "../runtime/objects.ts";
import { FakeCluster } from "../runtime/testing/fake-cluster.ts";
import { WorkQueue } from "../runtime/work-queue.ts";
import { FakeTransport } from "../testing/fake-transport.ts";
import { Watches } from "../watches.ts";
import { collectLeftBehind, LEFT_BEHIND_KEY } from "./left-behind.ts";

// Whoever may edit a BackupRepository may take its finalizer off: then nobody removes what was copied into the operator's namespace.

const OWN = "vmrestore-system";
const UID = "5d307ca9-b3ef-428c-8861-06e72d69f223";
const NAME = `repository-${UID}`;
const clock = new ManualClock();
let cluster: FakeCluster;

function put(type: ResourceType, metadata: object, rest: object = {}): void {
  const namespace = type.namespaced ? { namespace: OWN } : {};
  cluster.put(type, { apiVersion: "v1", kind: type.kind, metadata: { ...namespace, ...metadata }, ...rest });
}

const labels = { [LABELS.repositoryUid]: UID };

beforeEach(() => {
  cluster = new FakeCluster(clock);
  for (const type of [SECRETS, VOLUMES, CLAIMS, JOBS] as ResourceType[]) put(type, { name: NAME, labels });
});

const collect = () => collectLeftBehind({ cluster, settings: { namespace: OWN }, logger: silentLogger });
const left = () => cluster.keys().filter((key) => key.includes(NAME));

async function collectAll(): Promise<void> {
  for (let turn = 0; turn < 10 && (await collect()) !== undefined; turn++);
}

test("what a BackupRepository left behind is removed, the claim before its volume, and what reads both before them", async () => {
  await collectAll();
  expect(left()).toEqual([]);
  expect(cluster.writes.map(({ verb, type }) => `${verb} ${type.kind}`)).toEqual([
    "delete Job",
    "delete PersistentVolumeClaim",
    "delete Secret",
    "delete PersistentVolume",
  ]);
});

test("nothing is removed while its BackupRepository is there, in whatever namespace", async () => {
  const metadata = { name: "nightly", namespace: "tenant" };
  cluster.put(BACKUP_REPOSITORIES, { apiVersion: "vmrestore.io/v1alpha1", kind: "BackupRepository", metadata }, UID);
  expect(await collect()).toBeUndefined();
  expect(left()).toHaveLength(4);
});

test("one of the same name that was made anew is another", async () => {
  const metadata = { name: "nightly", namespace: "tenant" };
  cluster.put(BACKUP_REPOSITORIES, { apiVersion: "vmrestore.io/v1alpha1", kind: "BackupRepository", metadata });
  await collectAll();
  expect(left()).toEqual([]);
});

test.each([
  ["a restore that reads from it", SECRETS, { ...labels, [LABELS.restoreUid]: "r" }, {}],
  ["a restore that reads from it, too", SECRETS, { [alsoReads(UID)]: "", [LABELS.restoreUid]: "r" }, {}],
  ["an agent whose plan was lost", STATEFUL_SETS, { [LABELS.restoreUid]: "r" }, mounting("secret", "secretName")],
  ["a pod that is left", PODS, { [LABELS.restoreUid]: "r" }, mounting("persistentVolumeClaim", "claimName")],
] as [string, ResourceType, Record<string, string>, object][])(
  "nothing is removed under %s",
  async (_, type, marks, spec) => {
    put(type, { name: "vmr-r-plan", labels: marks }, { spec });
    expect(await collect()).toBeGreaterThan(60_000);
    expect(left()).toHaveLength(4);
    cluster.erase(type, OWN, "vmr-r-plan");
    await collectAll();
    expect(left()).toEqual([]);
  },
);

function mounting(volume: string, field: string): object {
  return { template: { spec: { volumes: [{ name: "repository", [volume]: { [field]: NAME } }] } } };
}

test("what lacks the operator's marks, or is elsewhere, is nobody's here to remove", async () => {
  cluster = new FakeCluster(clock);
  put(SECRETS as ResourceType, { name: NAME });
  put(SECRETS as ResourceType, { name: "somebody-elses", labels });
  put(SECRETS as ResourceType, { name: NAME, namespace: "tenant", labels });
  put(CLAIMS as ResourceType, { name: NAME, labels: { [LABELS.repositoryUid]: "another" } });
  expect(await collect()).toBeUndefined();
  expect(cluster.writes).toEqual([]);
});

test("where the BackupRepositories cannot be listed, nothing is removed", async () => {
  const list: FakeCluster["list"] = async (type, namespace, selector) => {
    if (type.kind === "BackupRepository") throw new Error("connection refused");
    return cluster.list(type, namespace, selector);
  };
  const lame = { list, delete: cluster.delete.bind(cluster) };
  await expect(
    collectLeftBehind({ cluster: lame, settings: { namespace: OWN }, logger: silentLogger }),
  ).rejects.toThrow("refused");
  expect(cluster.writes).toEqual([]);
});

test("it is looked for when the operator starts, and when a BackupRepository goes", async () => {
  const metadata = { name: "nightly", namespace: "tenant" };
  const repositories = new WorkQueue(clock);
  const over = new AbortController();
  const transport = new FakeTransport(cluster);
  const common = { clock, logger: silentLogger, transport, namespace: OWN };
  const running = new Watches({ ...common, restores: new WorkQueue(clock), repositories }).run(over.signal);
  const settle = async () => {
    for (let turn = 0; turn < 10; turn++) await clock.advance(0);
  };
  const next = async () => {
    await settle();
    const key = await repositories.take();
    repositories.done(key ?? "");
    return key;
  };
  expect(await next()).toBe(LEFT_BEHIND_KEY);
  cluster.put(BACKUP_REPOSITORIES, { apiVersion: "vmrestore.io/v1alpha1", kind: "BackupRepository", metadata });
  expect(await next()).toBe("tenant/nightly");
  cluster.erase(BACKUP_REPOSITORIES, "tenant", "nightly");
  expect([await next(), await next()].sort()).toEqual([LEFT_BEHIND_KEY, "tenant/nightly"]);
  over.abort();
  transport.release();
  await settle();
  await running;
});
