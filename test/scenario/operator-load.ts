import { type ChildProcess, spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { stripTypeScriptTypes } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { parse } from "yaml";
import { systemClock } from "../../src/base/clock.ts";
import type { AgentControl } from "../../src/operator/actions.ts";
import { STATEFUL_SETS, STORAGE_CLASSES } from "../../src/operator/kinds.ts";
import type { ResourceType } from "../../src/operator/runtime/objects.ts";
import { OWN, World } from "../../src/operator/vm-restore/testing/world.ts";
import { putRestores } from "./many-restores.ts";
import { startOperatorCluster } from "./operator-cluster.ts";

const ROOT = join(import.meta.dirname, "../..");
const SAMPLE_MS = 200;

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

/** What every media agent says. */
export interface AgentAnswers {
  readonly status: Awaited<ReturnType<AgentControl["status"]>>;
  readonly profile: Awaited<ReturnType<AgentControl["profile"]>>;
}

/** An operator process beside an API server with many restores, on whose agents nothing happens. */
export async function measureOperator(options: {
  readonly directory: string;
  readonly completed: number;
  readonly live: number;
  readonly idleSeconds: number;
}): Promise<OperatorLoad> {
  const { plane, cluster, close } = await startOperatorCluster(options.directory, OWN);
  let child: ChildProcess | undefined;
  try {
    const metadata = { name: "fast" };
    await cluster.create(STORAGE_CLASSES as ResourceType, {
      ...{ apiVersion: STORAGE_CLASSES.apiVersion, kind: STORAGE_CLASSES.kind },
      ...{ metadata, provisioner: "example.org/replicated" },
    });
    await putRestores(cluster, options);
    const world = new World();
    world.cluster.put(STATEFUL_SETS, { ...STATEFUL_SETS, metadata: { name: "agent", namespace: OWN } });
    const agent = world.agent.connect();
    const said: AgentAnswers = { status: await agent.status(), profile: await agent.profile() };
    // Types are stripped here: what does that takes memory which a shipped operator does not.
    const script = stripTypeScriptTypes(await readFile(join(ROOT, "test/scenario/operator-process.ts"), "utf8"));
    const flags = ["--input-type=module", "--eval", script];
    child = spawn(
      process.execPath,
      [...(await nodeOptions()), ...flags, plane.kubeconfigPath, OWN, JSON.stringify(said)],
      {
        cwd: ROOT,
        stdio: ["ignore", "ignore", "pipe"],
      },
    );
    return await watch(child, options.idleSeconds);
  } finally {
    await end(child);
    await close();
  }
}

/** As the chart has it. */
async function nodeOptions(): Promise<string[]> {
  const values = parse(await readFile(join(ROOT, "charts/vmrestore-operator/values.yaml"), "utf8"));
  return (values as { nodeOptions: string }).nodeOptions.split(" ");
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
  const end = systemClock.monotonic() + 90_000;
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
