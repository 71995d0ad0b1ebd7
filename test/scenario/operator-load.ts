import { type ChildProcess, spawn } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { stripTypeScriptTypes } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { KubeConfig } from "@kubernetes/client-node";
import { parse } from "yaml";
import { systemClock } from "../../src/base/clock.ts";
import { startControlPlane } from "../../src/lab/control-plane.ts";
import { STATEFUL_SETS, VM_RESTORES } from "../../src/operator/kinds.ts";
import type { Manifest, ResourceType } from "../../src/operator/runtime/objects.ts";
import { RestCluster } from "../../src/operator/runtime/rest-cluster.ts";
import { Transport } from "../../src/operator/runtime/transport.ts";
import { OWN, World } from "../../src/operator/vm-restore/testing/world.ts";
import { putRestores } from "./many-restores.ts";

const ROOT = join(import.meta.dirname, "../..");
const SAMPLE_MS = 200;
const resource = (apiVersion: string, kind: string, plural: string): ResourceType => ({
  apiVersion,
  kind,
  plural,
  namespaced: false,
});
const DEFINITIONS = resource("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions");
const NAMESPACES = resource("v1", "Namespace", "namespaces");
const CLASSES = resource("storage.k8s.io/v1", "StorageClass", "storageclasses");

/** Requests by verb and resource. */
export type Requests = ReadonlyMap<string, number>;

export interface OperatorLoad {
  /** Resident bytes at most, and when nothing happens any more. */
  readonly peakBytes: number;
  readonly idleBytes: number;
  /** From its start until nothing more came. */
  readonly atStart: Requests;
  readonly idle: Requests;
  readonly idleSeconds: number;
}

/** An operator process beside an API server with many restores, on whose agents nothing happens. */
export async function measureOperator(options: {
  readonly directory: string;
  readonly completed: number;
  readonly live: number;
  readonly idleSeconds: number;
}): Promise<OperatorLoad> {
  const plane = await startControlPlane({ kubeconfigPath: join(options.directory, "kubeconfig") });
  const config = new KubeConfig();
  config.loadFromFile(plane.kubeconfigPath);
  const transport = new Transport(config);
  const cluster = new RestCluster(transport, new AbortController().signal, "test");
  let child: ChildProcess | undefined;
  try {
    await prepare(cluster);
    await putRestores(cluster, options);
    const world = new World();
    world.cluster.put(STATEFUL_SETS, { ...STATEFUL_SETS, metadata: { name: "agent", namespace: OWN } });
    const said = JSON.stringify(await world.connect().status());
    // Types are stripped here: what does that takes memory which a shipped operator does not.
    const script = stripTypeScriptTypes(await readFile(join(ROOT, "test/scenario/operator-process.ts"), "utf8"));
    const flags = ["--input-type=module", "--eval", script];
    child = spawn(process.execPath, [...(await nodeOptions()), ...flags, plane.kubeconfigPath, OWN, said], {
      cwd: ROOT,
      stdio: ["ignore", "ignore", "pipe"],
    });
    return await watch(child, options.idleSeconds);
  } finally {
    await end(child);
    transport.close();
    await plane.close();
  }
}

/** As the chart has it. */
async function nodeOptions(): Promise<string[]> {
  const values = parse(await readFile(join(ROOT, "charts/vmrestore-operator/values.yaml"), "utf8"));
  return (values as { nodeOptions: string }).nodeOptions.split(" ");
}

async function prepare(cluster: RestCluster): Promise<void> {
  for (const file of await readdir(join(ROOT, "crds")))
    await cluster.create(DEFINITIONS, parse(await readFile(join(ROOT, "crds", file), "utf8")) as Manifest);
  await cluster.create(DEFINITIONS, kubeVirtDefinition("VirtualMachine", "virtualmachines"));
  await cluster.create(DEFINITIONS, kubeVirtDefinition("VirtualMachineInstance", "virtualmachineinstances"));
  await cluster.create(NAMESPACES, { apiVersion: "v1", kind: "Namespace", metadata: { name: OWN } });
  const metadata = { name: "fast" };
  await cluster.create(CLASSES, { ...CLASSES, metadata, provisioner: "example.org/replicated" });
  for (;;) {
    const isServed = await cluster.list(VM_RESTORES, undefined).then(
      () => true,
      () => false,
    );
    if (isServed) return;
    await systemClock.sleep(50);
  }
}

function kubeVirtDefinition(kind: string, plural: string): Manifest {
  const schema = { openAPIV3Schema: { type: "object", "x-kubernetes-preserve-unknown-fields": true } };
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: `${plural}.kubevirt.io` },
    spec: {
      group: "kubevirt.io",
      scope: "Namespaced",
      names: { kind, plural, singular: kind.toLowerCase(), listKind: `${kind}List` },
      versions: [{ name: "v1", served: true, storage: true, subresources: { status: {} }, schema }],
    },
  };
}

async function watch(child: ChildProcess, idleSeconds: number): Promise<OperatorLoad> {
  const address = await addressOf(child);
  let peakBytes = 0;
  const sample = async (): Promise<number> => {
    const status = await readFile(`/proc/${child.pid}/status`, "latin1");
    peakBytes = Math.max(peakBytes, 1024 * Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0));
    return 1024 * Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0);
  };
  const atStart = await settled(address);
  await systemClock.sleep(1000 * idleSeconds);
  const after = await requestsOf(address);
  const idle = new Map([...after].map(([key, count]) => [key, count - (atStart.get(key) ?? 0)]));
  for (const [key, count] of idle) if (count === 0) idle.delete(key);
  return { idleBytes: await sample(), peakBytes, atStart, idle, idleSeconds };
}

async function addressOf(child: ChildProcess): Promise<string> {
  if (child.stderr === null) throw new Error("the operator's log is not read");
  let found: string | undefined;
  const lines = createInterface({ input: child.stderr });
  return new Promise((resolve, reject) => {
    // Its log is read to the end, so that it never waits for its reader.
    lines.on("line", (line) => {
      if (found !== undefined || !line.includes("health and metrics served")) return;
      const { address, port } = JSON.parse(line) as { address: string; port: number };
      found = `http://${address}:${port}`;
      resolve(found);
    });
    child.on("exit", (code) => reject(new Error(`the operator ended early: ${code}`)));
  });
}

/** Waits until the operator has led for a while and asks for nothing but its Lease. */
async function settled(address: string): Promise<Requests> {
  const end = systemClock.monotonic() + 120_000;
  let before = "";
  for (let quiet = 0; systemClock.monotonic() < end; ) {
    const requests = await requestsOf(address);
    const now = JSON.stringify([...requests].filter(([key]) => !key.endsWith(" leases")));
    quiet = now === before && requests.has("watch vmrestores") ? quiet + SAMPLE_MS : 0;
    if (quiet >= 3000) return requests;
    before = now;
    await systemClock.sleep(SAMPLE_MS);
  }
  throw new Error("the operator does not come to rest");
}

async function requestsOf(address: string): Promise<Requests> {
  const text = await (await fetch(`${address}/metrics`)).text();
  const counts = new Map<string, number>();
  for (const [, verb, resource, count] of text.matchAll(
    /^vmrestore_operator_api_requests_total\{verb="(\w+)",resource="([\w/]+)",code="\d+"\} (\d+)$/gm,
  )) {
    const key = `${verb} ${resource}`;
    counts.set(key, (counts.get(key) ?? 0) + Number(count));
  }
  return counts;
}

async function end(child: ChildProcess | undefined): Promise<void> {
  if (child === undefined || child.exitCode !== null) return;
  const exited = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  const late = setTimeout(() => child.kill("SIGKILL"), 10_000);
  await exited;
  clearTimeout(late);
}
