import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { AGENT_PORTS } from "../../src/api/agent-config.ts";
import { FIRST_PASS_DONE } from "../../src/relocation/disk-relocation.ts";
import { AgentProcess } from "./agent-process.ts";
import { launch, run } from "./commands.ts";
import { median, renderTable } from "./table.ts";
import type { NoiseDisk } from "./workplace.ts";

const WITHIN_MS = 10 * 60_000;

/**
 * From the same media agent, over the same mutual TLS, to a synced file: our copy Job against nbdcopy, interleaved. What the Job takes
 * to start is in it: of a disk of half a GiB it would be a fifth, of one of 2 GiB a sixteenth.
 */
export async function benchRelocation(data: NoiseDisk, cliEntry: string, rounds: number): Promise<string> {
  const results = { ours: [] as number[], nbdcopy: [] as number[] };
  for (let round = 0; round < rounds; round++) {
    const scratch = await mkdtemp(join(data.directory, "relocation-"));
    const agent = await AgentProcess.start({
      cliEntry,
      directory: scratch,
      address: `127.84.0.${round + 1}`,
      repositoryDir: data.repository,
      password: data.password,
      config: {
        repository: { local: {} },
        snapshot: { id: data.snapshot, pin: false },
        disks: [{ name: "root", path: data.path, format: "raw", size: data.bytes }],
        cache: { sizeBytes: 2 * data.bytes },
      },
    });
    try {
      const uri = `nbds://${agent.address}:${AGENT_PORTS.nbd}/root?tls-certificates=${agent.tlsDir}`;
      await run("nbdcopy", [uri, "null:"]); // both then read from the cache
      const order = round % 2 === 0 ? (["ours", "nbdcopy"] as const) : (["nbdcopy", "ours"] as const);
      for (const name of order) {
        const target = join(scratch, name);
        await mkdir(target);
        const start = performance.now();
        if (name === "nbdcopy") await run("nbdcopy", ["--flush", uri, join(target, "disk.img")]);
        else await relocate(agent, cliEntry, target);
        results[name].push(data.bytes / 2 ** 20 / ((performance.now() - start) / 1000));
      }
    } finally {
      await agent.stop();
      await rm(scratch, { recursive: true, force: true });
    }
  }
  const ceiling = median(results.nbdcopy);
  const rows = Object.entries(results).map(([name, all]) => [
    name === "ours" ? "VMRestore relocate (resumable, to durable)" : "nbdcopy --flush",
    median(all).toFixed(0),
    `${Math.min(...all).toFixed(0)}–${Math.max(...all).toFixed(0)}`,
    `${(median(all) / ceiling).toFixed(2)} ×`,
  ]);
  return `Relocation, ${data.bytes / 2 ** 20} MiB from the agent's cache over mutual TLS (${rounds} rounds)\n\n${renderTable(["", "MiB/s", "spread", "to nbdcopy"], rows)}`;
}

/**
 * Runs the Job until it says that its first pass is durable; then it is ended: the rest waits for a cutover. The agent is not asked
 * meanwhile, since answering takes of the time that is measured.
 */
export async function relocate(agent: AgentProcess, cliEntry: string, target: string): Promise<void> {
  const args = [cliEntry, "relocate", "--agent", agent.address, "--tls-dir", agent.tlsDir, "--disk", `root=${target}`];
  const job = launch(process.execPath, args, {
    stdio: ["ignore", "ignore", "pipe"],
    env: { ...process.env, NODE_OPTIONS: "" },
  });
  const ended = new Promise((resolve) => job.once("exit", resolve));
  const limit = setTimeout(() => job.kill("SIGKILL"), WITHIN_MS);
  try {
    for await (const line of createInterface({ input: job.stderr as Readable })) {
      if (line.includes(FIRST_PASS_DONE)) return;
    }
    throw new Error("the Job ended before its first pass was durable");
  } finally {
    clearTimeout(limit);
    job.kill("SIGKILL");
    await ended;
  }
}
