import type { ChildProcess } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { launch, run } from "./commands.ts";
import { startOwnServer } from "./own-server.ts";
import { stopProcess } from "./processes.ts";
import { median, renderTable } from "./table.ts";
import type { NoiseDisk } from "./workplace.ts";

const SECONDS = 4;
/** Of the whole disk, by each contender in each round: one takes half a second, and this machine's are a third apart. */
const COPIES = 5;
const DEPTHS = [1, 16, 32] as const;

interface Contender {
  readonly name: string;
  start(socket: string): Promise<ChildProcess>;
}

interface Figures {
  /** Thousands of 4 KiB random reads a second, by depth. */
  readonly random: readonly number[];
  /** MiB/s, the whole disk by nbdcopy. */
  readonly sequential: number;
}

/** Reads of cached data over NBD: ours against qemu-nbd and nbdkit on the same bytes, each over a UNIX socket, interleaved. */
export async function benchNbd(data: NoiseDisk, rounds: number): Promise<string> {
  // The temporary directory: a UNIX socket's path is limited to 107 bytes.
  const scratch = await mkdtemp(join(tmpdir(), "bench-nbd-"));
  const contenders = [ours(data, scratch), qemuNbd(data), nbdkit(data)];
  const results = new Map<string, Figures[]>();
  try {
    for (let round = 0; round < rounds; round++) {
      for (const contender of contenders) {
        const figures = await measure(contender, join(scratch, `${contender.name.split(" ")[0]}-${round}.sock`), data);
        results.set(contender.name, [...(results.get(contender.name) ?? []), figures]);
      }
    }
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
  const rows = [...results].map(([name, all]) => [
    name,
    ...DEPTHS.map((_, index) => median(all.map(({ random }) => random[index] ?? 0)).toFixed(1)),
    median(all.map(({ sequential }) => sequential)).toFixed(0),
  ]);
  const title = `NBD, ${data.bytes / 2 ** 20} MiB that are cached (medians of ${rounds} rounds, ${SECONDS} s each; fio's nbd engine, nbdcopy)`;
  return `${title}\n\n${renderTable(["", ...DEPTHS.map((depth) => `4 KiB random, depth ${depth} (k/s)`), "sequential (MiB/s)"], rows)}`;
}

async function measure(contender: Contender, socket: string, data: NoiseDisk): Promise<Figures> {
  const server = await contender.start(socket);
  try {
    for (let tries = 0; !existsSync(socket); tries++) {
      if (tries > 600 || server.exitCode !== null) throw new Error(`${contender.name} did not start`);
      await delay(50);
    }
    const uri = `nbd+unix:///root?socket=${socket}`;
    await run("nbdcopy", [uri, "null:"]); // fills every cache
    const copies: number[] = [];
    for (let copy = 0; copy < COPIES; copy++) {
      const start = performance.now();
      await run("nbdcopy", [uri, "null:"]);
      copies.push(data.bytes / 2 ** 20 / ((performance.now() - start) / 1000));
    }
    const sequential = median(copies);
    const random: number[] = [];
    for (const depth of DEPTHS) random.push((await fio(uri, depth, data.bytes)) / 1000);
    return { random, sequential };
  } finally {
    await stopProcess(server);
    await rm(socket, { force: true });
  }
}

async function fio(uri: string, depth: number, bytes: number): Promise<number> {
  const options = [
    "--name=x",
    "--ioengine=nbd",
    `--uri=${uri}`,
    "--rw=randread",
    "--bs=4k",
    `--iodepth=${depth}`,
    `--size=${bytes}`,
  ];
  const { stdout } = await run("fio", [...options, "--time_based", `--runtime=${SECONDS}`, "--output-format=json"]);
  const { jobs } = JSON.parse(stdout.slice(stdout.indexOf("{"))) as { jobs: { read: { iops: number } }[] };
  return jobs[0]?.read.iops ?? 0;
}

function ours(data: NoiseDisk, scratch: string): Contender {
  let number = 0;
  return {
    name: "VMRestore (cache, verified)",
    start: (socket) => startOwnServer(data, join(scratch, `state-${number++}`), socket),
  };
}

function qemuNbd(data: NoiseDisk): Contender {
  return {
    name: "qemu-nbd",
    start: async (socket) =>
      launch("qemu-nbd", ["-r", "-t", "-e", "8", "-x", "root", "-f", "raw", "-k", socket, data.disk], {
        stdio: "ignore",
      }),
  };
}

function nbdkit(data: NoiseDisk): Contender {
  return {
    name: "nbdkit file",
    start: async (socket) => launch("nbdkit", ["-f", "-r", "-U", socket, "file", data.disk], { stdio: "ignore" }),
  };
}
