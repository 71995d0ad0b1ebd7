import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { GANESHA_MOUNT_PORT, ganeshaCommand } from "./ganesha.ts";
import { startOwnServer } from "./own-server.ts";
import { stopProcess } from "./processes.ts";
import { median, renderTable } from "./table.ts";
import type { NoiseDisk } from "./workplace.ts";

const run = promisify(execFile);
const SECONDS = 3;
const DEPTHS = [1, 16, 32] as const;
const SEQUENTIAL = { depth: 8, block: 1024 * 1024 } as const;
const START_LIMIT_MS = 30_000;

interface Contender {
  readonly name: string;
  readonly url: string;
  readonly file: string;
  /** What stands before the client's command, so that it runs beside the server. */
  beside(server: ChildProcess): Promise<readonly string[]>;
  start(round: number): Promise<ChildProcess>;
}

/** Reads of cached data over NFSv3: ours against NFS-Ganesha on the same bytes, through libnfs, interleaved. */
export async function benchNfs(data: NoiseDisk, rounds: number): Promise<string> {
  const scratch = await mkdtemp(join(tmpdir(), "bench-nfs-"));
  const results = new Map<string, { random: readonly number[]; sequential: number }[]>();
  try {
    const client = join(scratch, "nfs-load");
    await run("gcc", ["-O2", "-o", client, join(import.meta.dirname, "nfs-load.c"), "-lnfs"]);
    for (let round = 0; round < rounds; round++) {
      for (const contender of [ours(data, scratch), ganesha(data, scratch)]) {
        const figures = await measure(contender, client, round);
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
  const title = `NFSv3, ${data.bytes / 2 ** 20} MiB that are cached (medians of ${rounds} rounds, ${SECONDS} s each; libnfs: test/bench/nfs-load.c)`;
  const head = [
    "",
    ...DEPTHS.map((depth) => `4 KiB random, depth ${depth} (k/s)`),
    "1 MiB sequential, depth 8 (MiB/s)",
  ];
  return `${title}\n\n${renderTable(head, rows)}`;
}

async function measure(
  contender: Contender,
  client: string,
  round: number,
): Promise<{ random: readonly number[]; sequential: number }> {
  const server = await contender.start(round);
  const load = async (seconds: number, depth: number, block: number, order: string): Promise<number> => {
    const load = [client, contender.url, contender.file, String(seconds), String(depth), String(block), order];
    const [program = "", ...args] = [...(await contender.beside(server)), ...load];
    const [reads = 0, took = 1] = (await run(program, args)).stdout.split(" ").map(Number);
    return reads / took;
  };
  try {
    const deadline = performance.now() + START_LIMIT_MS;
    while (!(await load(0.01, 1, 4096, "random").then(Boolean, () => false))) {
      if (server.exitCode !== null || performance.now() > deadline) throw new Error(`${contender.name} did not start`);
      await delay(200);
    }
    await load(0, SEQUENTIAL.depth, SEQUENTIAL.block, "sequential"); // fills every cache
    const sequential =
      (await load(SECONDS, SEQUENTIAL.depth, SEQUENTIAL.block, "sequential")) * (SEQUENTIAL.block / 2 ** 20);
    const random: number[] = [];
    for (const depth of DEPTHS) random.push((await load(SECONDS, depth, 4096, "random")) / 1000);
    return { random, sequential };
  } finally {
    await stopProcess(server);
  }
}

function ours(data: NoiseDisk, scratch: string): Contender {
  const address = "127.86.0.1";
  return {
    name: "VMRestore (cache, verified)",
    url: `nfs://${address}/bench?nfsport=2049&mountport=2049&version=3`,
    file: "/disk.img",
    beside: async () => [],
    start: (round) => startOwnServer(data, join(scratch, `state-${round}`), [`${address}:2049`, "/bench"]),
  };
}

function ganesha(data: NoiseDisk, scratch: string): Contender {
  const directory = dirname(data.disk);
  return {
    name: "NFS-Ganesha (VFS)",
    url: `nfs://127.0.0.1${directory}?nfsport=2049&mountport=${GANESHA_MOUNT_PORT}&version=3`,
    file: "/noise.img",
    async beside({ pid }) {
      const children = (await readFile(`/proc/${pid}/task/${pid}/children`, "latin1")).trim();
      return ["nsenter", "--net", "--target", children];
    },
    async start(round) {
      const command = await ganeshaCommand(join(scratch, `ganesha-${round}`), directory);
      const namespace = ["--net", "--pid", "--fork", "--kill-child=KILL"];
      return spawn("unshare", [...namespace, ...command], { stdio: "ignore" });
    },
  };
}
