import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { AgentProcess } from "./agent-process.ts";
import { launch, run } from "./commands.ts";
import { GANESHA_MOUNT_PORT, ganeshaCommand } from "./ganesha.ts";
import { agentConfig } from "./own-server.ts";
import { stopProcess } from "./processes.ts";
import { median, renderTable } from "./table.ts";
import type { NoiseDisk } from "./workplace.ts";

const SECONDS = 3;
const DEPTHS = [1, 16, 32] as const;
const SEQUENTIAL = { depth: 8, block: 1024 * 1024 } as const;
const START_LIMIT_MS = 30_000;

interface Server {
  /** The command before the client's, so that it runs beside the server. */
  readonly beside: readonly string[];
  readonly url: string;
  readonly file: string;
  stop(): Promise<void>;
}

interface Contender {
  readonly name: string;
  start(scratch: string): Promise<Server>;
}

/** Reads of cached data over NFSv3: ours against NFS-Ganesha on the same bytes, through libnfs, interleaved. */
export async function benchNfs(data: NoiseDisk, cliEntry: string, rounds: number): Promise<string> {
  const scratch = await mkdtemp(join(tmpdir(), "bench-nfs-"));
  const results = new Map<string, { random: readonly number[]; sequential: number }[]>();
  try {
    const client = join(scratch, "nfs-load");
    await run("gcc", ["-O2", "-o", client, join(import.meta.dirname, "nfs-load.c"), "-lnfs"]);
    for (let round = 0; round < rounds; round++) {
      for (const contender of [ours(data, cliEntry), ganesha(data)]) {
        const figures = await measure(contender, client, join(scratch, `${contender.name.split(" ")[0]}-${round}`));
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
  scratch: string,
): Promise<{ random: readonly number[]; sequential: number }> {
  const server = await contender.start(scratch);
  const load = async (seconds: number, depth: number, block: number, order: string): Promise<number> => {
    const words = [client, server.url, server.file, String(seconds), String(depth), String(block), order];
    const [program = "", ...args] = [...server.beside, ...words];
    const [reads = 0, took = 1] = (await run(program, args)).stdout.split(" ").map(Number);
    return reads / took;
  };
  try {
    const deadline = performance.now() + START_LIMIT_MS;
    while (!(await load(0.01, 1, 4096, "random").then(Boolean, () => false))) {
      if (performance.now() > deadline) throw new Error(`${contender.name} did not start`);
      await delay(200);
    }
    const { depth, block } = SEQUENTIAL;
    await load(0, depth, block, "sequential"); // fills every cache
    const sequential = (await load(SECONDS, depth, block, "sequential")) * (block / 2 ** 20);
    const random: number[] = [];
    for (const each of DEPTHS) random.push((await load(SECONDS, each, 4096, "random")) / 1000);
    return { random, sequential };
  } finally {
    await server.stop();
  }
}

function ours(data: NoiseDisk, cliEntry: string): Contender {
  const address = "127.86.0.1";
  return {
    name: "VMRestore (cache, verified)",
    async start(directory) {
      const { repository: repositoryDir, password } = data;
      const config = agentConfig(data);
      const agent = await AgentProcess.start({ cliEntry, directory, address, repositoryDir, password, config });
      const [disk] = (await agent.control.status()).disks;
      return {
        beside: [],
        url: `nfs://${address}${disk?.exportPath}?nfsport=2049&mountport=2049&version=3`,
        file: "/disk.img",
        stop: () => agent.stop(),
      };
    },
  };
}

function ganesha(data: NoiseDisk): Contender {
  const directory = dirname(data.disk);
  return {
    name: "NFS-Ganesha (VFS)",
    async start(scratch) {
      const command = await ganeshaCommand(scratch, directory);
      const namespace = ["--net", "--pid", "--fork", "--kill-child=KILL"];
      const server = launch("unshare", [...namespace, ...command], { stdio: "ignore" });
      await delay(500);
      const child = (await readFile(`/proc/${server.pid}/task/${server.pid}/children`, "latin1")).trim();
      return {
        beside: ["nsenter", "--net", "--target", child],
        url: `nfs://127.0.0.1${directory}?nfsport=2049&mountport=${GANESHA_MOUNT_PORT}&version=3`,
        file: "/noise.img",
        stop: () => stopProcess(server),
      };
    },
  };
}
