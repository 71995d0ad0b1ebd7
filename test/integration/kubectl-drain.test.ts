import { execFile, spawn } from "node:child_process";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { systemClock } from "../../src/base/clock.ts";
import { silentLogger } from "../../src/base/logging.ts";
import { runDisruptionController } from "../../src/lab/controllers/disruption.ts";
import { DISRUPTION_BUDGETS, NODES, PODS } from "../../src/lab/controllers/kinds.ts";
import { runNodeTaints } from "../../src/lab/controllers/node-taints.ts";
import { startTestControlPlane, type TestControlPlane } from "../../src/lab/testing/test-control-plane.ts";
import { RestCluster } from "../../src/operator/runtime/rest-cluster.ts";
import { Transport } from "../../src/operator/runtime/transport.ts";

// A real `kubectl drain`, and pods that are objects only.

const LIMIT_MS = 60_000;

let plane: TestControlPlane;
let transport: Transport;
let cluster: RestCluster;
let running: Promise<void>[];
const ending = new AbortController();

beforeAll(async () => {
  plane = await startTestControlPlane();
  transport = new Transport(plane.config);
  cluster = new RestCluster(transport, ending.signal, "test");
  const context = { cluster, transport, clock: systemClock, logger: silentLogger };
  running = [runDisruptionController(context, ending.signal), runNodeTaints(context, ending.signal)];
  await cluster.create(NODES, { apiVersion: "v1", kind: "Node", metadata: { name: "one" } });
  const conditions = [{ type: "Ready", status: "True", reason: "Ready", message: "", ...heartbeat() }];
  await cluster.applyStatus(NODES, {
    ...{ apiVersion: "v1", kind: "Node", metadata: { name: "one" } },
    status: { conditions },
  } as never);
});

afterAll(async () => {
  ending.abort();
  await Promise.allSettled(running);
  transport.close();
  await plane.close();
});

function heartbeat() {
  const now = new Date().toISOString();
  return { lastHeartbeatTime: now, lastTransitionTime: now };
}

async function runningPod(name: string): Promise<void> {
  const metadata = { name, namespace: "default", labels: { app: name } };
  const containers = [{ name: "c", image: "i" }];
  const spec = { nodeName: "one", terminationGracePeriodSeconds: 0, containers };
  await cluster.create(PODS, { apiVersion: "v1", kind: "Pod", metadata, spec });
  const conditions = [{ type: "Ready", status: "True", lastTransitionTime: new Date().toISOString() }];
  const status = { phase: "Running", conditions };
  await cluster.applyStatus(PODS, { apiVersion: "v1", kind: "Pod", metadata: { name, namespace: "default" }, status });
}

async function budget(name: string, maxUnavailable: number): Promise<void> {
  const metadata = { name, namespace: "default" };
  const spec = { maxUnavailable, selector: { matchLabels: { app: name } } };
  await cluster.create(DISRUPTION_BUDGETS, { apiVersion: "policy/v1", kind: "PodDisruptionBudget", metadata, spec });
  const isCounted = async () => {
    const found = await cluster.get(DISRUPTION_BUDGETS, "default", name);
    return (found?.status as { currentHealthy?: number } | undefined)?.currentHealthy === 1;
  };
  while (!(await isCounted())) await delay(20);
}

const environment = () => ({ ...process.env, KUBECONFIG: plane.kubeconfigPath, HOME: plane.folder });

function kubectl(...args: string[]): Promise<string> {
  return new Promise((resolve) => {
    execFile("kubectl", args, { env: environment(), timeout: LIMIT_MS }, (_, output, complaint) =>
      resolve(output + complaint),
    );
  });
}

const pods = async () => (await cluster.list(PODS, "default")).map(({ metadata }) => metadata.name).sort();

const isTainted = async (): Promise<boolean> =>
  (await cluster.get(NODES, undefined, "one"))?.spec?.taints?.some(({ key }) => key.endsWith("/unschedulable")) ===
  true;

test(
  "kubectl drain evicts what budgets allow, waits at what they hold, and goes on when that is let go",
  async () => {
    for (const name of ["free", "allowed", "held"]) await runningPod(name);
    await budget("allowed", 1);
    await budget("held", 0);
    const drain = spawn("kubectl", ["drain", "one", "--force", "--timeout=50s"], { env: environment() });
    let said = "";
    const ended = new Promise((resolve) => drain.once("close", resolve));
    for (const stream of [drain.stdout, drain.stderr])
      stream.on("data", (text: Buffer) => {
        said += text.toString();
      });
    const hold = /error when evicting.*"held".*Cannot evict pod as it would violate the pod's disruption budget/;
    while (!(hold.test(said) && (await pods()).length === 1)) await delay(50);
    expect(await pods()).toEqual(["held"]);
    const cordoned = await cluster.get(NODES, undefined, "one");
    expect(cordoned?.spec?.unschedulable).toBe(true);
    while (!(await isTainted())) await delay(20);

    const held = await cluster.get(DISRUPTION_BUDGETS, "default", "held");
    if (held !== undefined) await cluster.delete(DISRUPTION_BUDGETS, held);
    expect(await ended).toBe(0);
    expect(await pods()).toEqual([]);
    expect(said).toMatch(/node\/one (evicted|drained)/);

    expect(await kubectl("uncordon", "one")).toContain("uncordoned");
    while (await isTainted()) await delay(20);
  },
  LIMIT_MS,
);
