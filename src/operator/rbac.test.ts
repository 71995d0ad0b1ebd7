import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { parse } from "yaml";
import { LABELS } from "../api/group.ts";
import { silentLogger } from "../base/logging.ts";
import { ManualClock } from "../base/testing/manual-clock.ts";
import { collectLeftBehind } from "./backup-repository/left-behind.ts";
import { reconcileRepository } from "./backup-repository/reconcile.ts";
import { CLAIMS, JOBS, NETWORK_ATTACHMENTS, NODES, PODS, SECRETS, VM_RESTORES, VOLUMES } from "./kinds.ts";
import { NodeChecks } from "./node-check/node-checks.ts";
import { EventRecorder } from "./runtime/event-recorder.ts";
import { LeaderElector } from "./runtime/leader-elector.ts";
import { PodEvents } from "./runtime/pod-events.ts";
import { FakeCluster } from "./runtime/testing/fake-cluster.ts";
import { WorkQueue } from "./runtime/work-queue.ts";
import { fullManifest, LAN, revision } from "./vm-restore/testing/full-manifest.ts";
import { phaseIs, play } from "./vm-restore/testing/run.ts";
import { OLD_UID, OWN, TENANT, World } from "./vm-restore/testing/world.ts";
import { Watches } from "./watches.ts";

interface Rule {
  apiGroups: string[];
  resources: string[];
  verbs: string[];
}

const roles = parse(readFileSync(join(import.meta.dirname, "../../deploy/rbac.yaml"), "utf8")) as {
  cluster: Rule[];
  namespace: Rule[];
};

function flat(rules: readonly Rule[]): Set<string> {
  return new Set(
    rules.flatMap(({ apiGroups, resources, verbs }) =>
      apiGroups.flatMap((group) =>
        resources.flatMap((resource) => verbs.map((verb) => `${group}/${resource} ${verb}`)),
      ),
    ),
  );
}

/** What was asked of the cluster, and whether in the operator's own namespace. Applying makes what is not there. */
function asked({ reads, writes }: FakeCluster): { ask: string; own: boolean }[] {
  const of = (type: { apiVersion: string; plural: string }, verb: string, subresource = "") => {
    const group = type.apiVersion.includes("/") ? type.apiVersion.split("/")[0] : "";
    return `${group}/${type.plural}${subresource === "" ? "" : `/${subresource}`} ${verb}`;
  };
  return [
    ...reads.map(({ type, verb, namespace }) => ({ ask: of(type, verb), own: namespace === OWN })),
    ...writes.flatMap(({ type, verb, subresource, namespace }) => {
      const verbs = verb === "patch" && subresource === "" ? ["patch", "create"] : [verb];
      return verbs.map((each) => ({ ask: of(type, each, subresource), own: namespace === OWN }));
    }),
  ];
}

/** One object of each kind that a snapshot may carry for its machine. */
const CARRIED = [
  { apiVersion: "v1", kind: "Secret", metadata: { name: "init" }, data: {} },
  { apiVersion: "v1", kind: "Secret", metadata: { name: "ssh-keys" }, data: {} },
  { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "settings" }, data: {} },
  revision("orders-db-large-1", "VirtualMachineInstancetype", {}),
  revision("orders-db-windows-1", "VirtualMachinePreference", {}),
];

async function everythingAsked(): Promise<{ ask: string; own: boolean }[]> {
  const world = new World();
  world.restore({ ttlAfterCompletion: "5s" });
  await play(world, phaseIs("Completed"));
  await play(world, (restore) => restore === undefined);

  const bound = new World();
  bound.agentNode = "a";
  bound.reachableFrom = ["a"];
  bound.restore();
  await play(bound, phaseIs("Completed"));

  const discarded = new World();
  const full = fullManifest();
  discarded.backedUp = { ...full, spec: { ...full.spec, runStrategy: "Always" } };
  discarded.objects = CARRIED;
  discarded.cluster.put(NETWORK_ATTACHMENTS, LAN);
  discarded.backUp("root", "data");
  discarded.restore({ deletionPolicy: "Discard", relocation: { target: { storageClassName: "fast" } } });
  await play(discarded, phaseIs("Relocating"));
  discarded.cluster.erase(VM_RESTORES, TENANT, "orders-db");
  await play(discarded, (restore) => restore === undefined);

  const replaced = new World();
  replaced.hasTpm = true;
  replaced.existing();
  replaced.restore({ replace: { confirmUid: OLD_UID } });
  await play(replaced, phaseIs("Completed"));

  const migrated = new World();
  migrated.volumeMigrations.install();
  migrated.restore();
  await play(migrated, phaseIs("Completed"));

  const clock = new ManualClock();
  const cluster = new FakeCluster(clock);
  cluster.put(VOLUMES, {
    apiVersion: "v1",
    kind: "PersistentVolume",
    metadata: { name: "pv" },
    spec: { nfs: { server: "s", path: "/" } },
  });
  cluster.put(CLAIMS, {
    apiVersion: "v1",
    kind: "PersistentVolumeClaim",
    metadata: { name: "backups", namespace: TENANT },
    spec: { volumeName: "pv" },
  });
  const uid = cluster.peek(CLAIMS, TENANT, "backups")?.metadata.uid ?? "";
  cluster.change(VOLUMES, undefined, "pv", (volume) => {
    volume.spec = { ...volume.spec, claimRef: { namespace: TENANT, name: "backups", uid } };
  });
  cluster.put(SECRETS, {
    apiVersion: "v1",
    kind: "Secret",
    metadata: { name: "password", namespace: TENANT },
    data: { password: "cA==" },
  });
  const repositories = {
    apiVersion: "vmrestore.io/v1alpha1",
    kind: "BackupRepository",
    plural: "backuprepositories",
    namespaced: true,
  };
  cluster.put(repositories, {
    apiVersion: "vmrestore.io/v1alpha1",
    kind: "BackupRepository",
    metadata: { name: "nightly", namespace: TENANT },
    spec: { local: { claimName: "backups" }, credentialsSecretRef: { name: "password" } },
  });
  const settings = { namespace: OWN, image: "vmrestore" };
  const events = new EventRecorder(cluster, clock, silentLogger);
  const turn = () => reconcileRepository({ cluster, settings, clock, events }, TENANT, "nightly");
  const bind = () => {
    for (const { metadata } of cluster.all(CLAIMS)) {
      cluster.change(CLAIMS, metadata.namespace, metadata.name, (claim) => {
        claim.status = { phase: "Bound" };
      });
    }
  };
  for (let round = 0; round < 6; round++) {
    await turn();
    bind();
  }
  expect(cluster.all(JOBS)).toHaveLength(1);
  cluster.erase(repositories, TENANT, "nightly");
  for (let round = 0; round < 6; round++) await turn();
  expect(cluster.peek(repositories, TENANT, "nightly")).toBeUndefined();
  const left = { apiVersion: "v1", kind: "Secret", metadata: { name: "repository-gone", namespace: OWN } };
  cluster.put(SECRETS, { ...left, metadata: { ...left.metadata, labels: { [LABELS.repositoryUid]: "gone" } } });
  await collectLeftBehind({ cluster, settings, logger: silentLogger });
  expect(cluster.peek(SECRETS, OWN, "repository-gone")).toBeUndefined();

  const looked = new FakeCluster(clock);
  looked.put(NODES, {
    apiVersion: "v1",
    kind: "Node",
    metadata: { name: "a", labels: { "kubevirt.io/schedulable": "true" } },
    status: { conditions: [{ type: "Ready", status: "True" }] },
  });
  const checks = new NodeChecks({ cluster: looked, settings, clock, queue: new WorkQueue(clock) });
  checks.look();
  await checks.reconcile();
  expect(looked.all(PODS)).toHaveLength(1);

  const elector = new LeaderElector({
    cluster,
    namespace: OWN,
    name: "lease",
    identity: "me",
    clock,
    logger: silentLogger,
  });
  // Made where there is none, and led by once it has stood for its time.
  let isOver = false;
  const led = elector
    .run(new AbortController().signal, async () => undefined)
    .finally(() => {
      isOver = true;
    });
  while (!isOver) await clock.advance(1000);
  await led;
  const worlds = [world, bound, discarded, replaced, migrated].map((each) => each.cluster);
  return [...worlds, looked, cluster].flatMap(asked);
}

/** What the watches list and watch. */
async function watched(): Promise<{ ask: string; own: boolean }[]> {
  const asks: { ask: string; own: boolean }[] = [];
  const clock = new ManualClock();
  const note = (path: string, verb: string): void => {
    const [, group, namespace, plural] =
      /^\/(?:api|apis\/([^/]+))\/[^/]+(?:\/namespaces\/([^/]+))?\/([^/?]+)/.exec(path) ?? [];
    asks.push({ ask: `${group ?? ""}/${plural} ${verb}`, own: namespace === OWN });
  };
  const over = new AbortController();
  const transport = {
    request: async ({ path }: { path: string }) => {
      note(path, "list");
      return { items: [], metadata: { resourceVersion: "1" } };
    },
    async *watch(path: string) {
      note(path, "watch");
      yield* [];
      await clock.sleep(1000, over.signal);
    },
  };
  const watches = new Watches({
    transport,
    clock,
    logger: silentLogger,
    namespace: OWN,
    restores: new WorkQueue(clock),
    repositories: new WorkQueue(clock),
  });
  const running = watches.run(over.signal);
  const podEvents = new PodEvents({
    transport,
    clock,
    logger: silentLogger,
    queue: new WorkQueue(clock),
    signal: over.signal,
  });
  podEvents.look("default/orders-db", { namespace: TENANT, uid: "1" });
  while (!watches.synced || !asks.some(({ ask }) => ask === "/events watch")) await new Promise(setImmediate);
  await new Promise(setImmediate);
  over.abort();
  await running;
  return asks;
}

test("the roles allow what the controllers do, and nothing that they never do", async () => {
  const cluster = flat(roles.cluster);
  const namespace = flat(roles.namespace);
  const asks = [...(await everythingAsked()), ...(await watched())];
  const refused = asks.filter(({ ask, own }) => !cluster.has(ask) && !(own && namespace.has(ask)));
  expect([...new Set(refused.map(({ ask, own }) => `${ask}${own ? " (own)" : ""}`))]).toEqual([]);
  const used = new Set(asks.map(({ ask }) => ask));
  expect([...cluster, ...namespace].filter((ask) => !used.has(ask))).toEqual([]);
});
