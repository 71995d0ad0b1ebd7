import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { type Clock, systemClock } from "../../src/base/clock.ts";
import { silentLogger } from "../../src/base/logging.ts";
import { BACKUP_REPOSITORIES } from "../../src/operator/kinds.ts";
import { runOperator } from "../../src/operator/run.ts";
import type { KubernetesObject, ResourceType } from "../../src/operator/runtime/objects.ts";
import type { RestCluster } from "../../src/operator/runtime/rest-cluster.ts";
import { operatorKubeconfig } from "../scenario/operator-account.ts";
import { until as comesTo, type OperatorCluster, startOperatorCluster } from "../scenario/operator-cluster.ts";

// Two replicas of the operator beside one API server.

const OWN = "vmrestore-system";
interface Lease extends KubernetesObject {
  kind: "Lease";
  spec?: { holderIdentity?: string; leaseTransitions?: number };
}
const LEASES: ResourceType<Lease> = {
  apiVersion: "coordination.k8s.io/v1",
  kind: "Lease",
  plural: "leases",
  namespaced: true,
};

let folder: string;
let beside: OperatorCluster;
let cluster: RestCluster;
let kubeconfig: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "vmrestore-replicas-"));
  beside = await startOperatorCluster(folder, OWN);
  ({ cluster } = beside);
  kubeconfig = await operatorKubeconfig(beside.plane);
});

afterAll(async () => {
  await beside.close();
  await rm(folder, { recursive: true, force: true });
});

function start(clock: Clock = systemClock) {
  const ending = new AbortController();
  const options = { namespace: OWN, image: "vmrestore", kubeconfig, logger: silentLogger, clock };
  const running = runOperator({ ...options, listen: { host: "127.0.0.1", port: 0 } }, ending.signal);
  return { end: () => ending.abort(), running };
}

const lease = async () => (await cluster.get(LEASES, OWN, "vmrestore-operator"))?.spec;

const until = (what: () => Promise<boolean>) => comesTo(what, 40_000);

test("a replica that ends in order gives its Lease back at once, and the other goes on with the work", async () => {
  const first = start();
  await until(async () => (await lease())?.holderIdentity !== undefined);
  const holder = (await lease())?.holderIdentity;
  const second = start();
  first.end();
  await first.running;
  // Given back, not run out: nobody waited for it.
  await until(async () => ![holder, ""].includes((await lease())?.holderIdentity ?? ""));
  expect((await lease())?.leaseTransitions).toBe(1);
  await cluster.create(BACKUP_REPOSITORIES, {
    apiVersion: "vmrestore.io/v1alpha1",
    kind: "BackupRepository",
    metadata: { name: "nightly", namespace: "default" },
    spec: { local: { claimName: "none" }, credentialsSecretRef: { name: "none" } },
  });
  await until(async () => {
    const repository = await cluster.get(BACKUP_REPOSITORIES, "default", "nightly");
    return (repository?.status?.conditions ?? []).length > 0;
  });
  second.end();
  await second.running;
  expect((await lease())?.holderIdentity).toBe("");
}, 120_000);

test("a leader on a node whose clock is hours ahead goes by the API server's", async () => {
  const hours = 9 * 3_600_000;
  const only = start({ ...systemClock, now: () => systemClock.now() + hours });
  await cluster.create(BACKUP_REPOSITORIES, {
    apiVersion: "vmrestore.io/v1alpha1",
    kind: "BackupRepository",
    metadata: { name: "weekly", namespace: "default" },
    spec: { local: { claimName: "none" }, credentialsSecretRef: { name: "none" } },
  });
  const find = () => cluster.get(BACKUP_REPOSITORIES, "default", "weekly");
  await until(async () => ((await find())?.status?.conditions ?? []).length > 0);
  const repository = await find();
  const made = Date.parse(repository?.metadata.creationTimestamp ?? "");
  const told = Date.parse(repository?.status?.conditions?.[0]?.lastTransitionTime ?? "");
  expect(told - made).toBeLessThan(hours / 2);
  only.end();
  await only.running;
}, 120_000);

test("a leader whose Lease bears another's name ends, and says why", async () => {
  const only = start();
  await until(async () => ![undefined, ""].includes((await lease())?.holderIdentity));
  const ended = expect(only.running).rejects.toMatchObject({ code: "LEADERSHIP_LOST" });
  const spec = { holderIdentity: "somebody else" };
  await cluster.apply(LEASES, {
    apiVersion: LEASES.apiVersion,
    kind: LEASES.kind,
    metadata: { name: "vmrestore-operator", namespace: OWN },
    spec,
  });
  await ended;
  expect((await lease())?.holderIdentity).toBe("somebody else");
}, 120_000);
