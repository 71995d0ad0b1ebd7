import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { KubeConfig } from "@kubernetes/client-node";
import { API_VERSION, LABELS } from "../../src/api/group.ts";
import { systemClock } from "../../src/base/clock.ts";
import { silentLogger } from "../../src/base/logging.ts";
import { type Lab, startLab } from "../../src/lab/lab.ts";
import { NAMESPACES, NODES, PODS, VM_RESTORES } from "../../src/operator/kinds.ts";
import { decideChecks } from "../../src/operator/node-check/decide-checks.ts";
import { nodesVerdict } from "../../src/operator/node-check/nodes-verdict.ts";
import { runOperator } from "../../src/operator/run.ts";
import { RestCluster } from "../../src/operator/runtime/rest-cluster.ts";
import { Transport } from "../../src/operator/runtime/transport.ts";

// The pods that look at nodes, run for real on the lab's two, one of which has no mount.nfs.

const ROOT = join(import.meta.dirname, "../..");
const OWN = "vmrestore-system";
let directory: string;
let lab: Lab;
let transport: Transport;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "vmrestore-nodes-"));
  const cliEntry = join(ROOT, "src/cli/main.ts");
  lab = await startLab({ directory, cliEntry, crds: join(ROOT, "crds") });
  const config = new KubeConfig();
  config.loadFromFile(lab.kubeconfigPath);
  transport = new Transport(config);
});

afterAll(async () => {
  transport?.close();
  await lab?.close();
  await rm(directory, { recursive: true, force: true });
});

async function readyNodes(cluster: RestCluster): Promise<number> {
  const nodes = await cluster.list(NODES, undefined);
  const isReady = (node: (typeof nodes)[number]): boolean =>
    // A real API server taints each node that registers, until it is seen to be ready.
    (node.status?.conditions ?? []).length > 0 && (node.spec?.taints ?? []).length === 0;
  return nodes.filter(isReady).length;
}

test("a node without mount.nfs is told from one with it", async () => {
  const cluster = new RestCluster(transport, new AbortController().signal, "test");
  await cluster.create(NAMESPACES, { apiVersion: "v1", kind: "Namespace", metadata: { name: OWN } });
  // Registered with the lab's start, or a moment later; a node's files are made before it is.
  while ((await readyNodes(cluster)) < 2) await systemClock.sleep(50);
  await rm(join(directory, "hosts/lab-node-2/sbin/mount.nfs"));
  const ending = new AbortController();
  const options = { namespace: OWN, image: "vmrestore", kubeconfig: lab.kubeconfigPath, logger: silentLogger };
  const listen = { host: "127.0.0.1", port: 0 };
  const running = runOperator({ ...options, listen, checkNodes: true }, ending.signal);
  // Any restore asks, whatever becomes of it.
  await cluster.create(VM_RESTORES, {
    apiVersion: API_VERSION,
    kind: "VMRestore",
    metadata: { name: "orders-db", namespace: OWN },
    spec: {
      source: { repository: { name: "none" }, snapshot: { latest: {} } },
      virtualMachine: { name: "orders-db" },
      relocation: { target: { storageClassName: "fast" } },
    },
  });
  const look = async () => {
    const pods = await cluster.list(PODS, OWN, LABELS.nodeCheck);
    const now = { now: systemClock.now(), refused: undefined };
    return decideChecks(await cluster.list(NODES, undefined), pods, now).nodes;
  };
  let nodes = await look();
  while (nodes.some(({ state }) => state.is === "Pending")) {
    await systemClock.sleep(100);
    nodes = await look();
  }
  ending.abort();
  await running;
  expect(nodes.map(({ name, state }) => [name, state.is === "Reported" && state.report.mountHelper])).toEqual([
    ["lab-node", "Present"],
    ["lab-node-2", "Missing"],
  ]);
  expect(nodesVerdict(nodes, {})).toMatchObject({ status: "True", reason: "SomeNodesUnable" });
  expect(nodesVerdict(nodes, {})?.message).toContain("lab-node-2 has no mount.nfs");
  expect(nodesVerdict(nodes, { nodeSelector: { "kubernetes.io/hostname": "lab-node-2" } })).toMatchObject({
    status: "False",
    reason: "NfsClientMissing",
  });
});
