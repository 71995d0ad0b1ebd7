import { copyFile, mkdir, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { runInUml } from "../uml/run-in-uml.ts";
import { AgentProcess } from "./agent-process.ts";
import { note } from "./commands.ts";
import { GANESHA_MOUNT_PORT, ganeshaCommand } from "./ganesha.ts";
import { agentConfig } from "./own-server.ts";
import { median, renderTable } from "./table.ts";
import type { NoiseDisk } from "./workplace.ts";

const SECONDS = 4;
const STAGED_WITHIN_MS = 60_000;
/** Each load has a region of its own; the last two's was written before. */
const LOADS = [
  { name: "new pages, depth 1", bytes: 4096, depth: 1, offset: 0 },
  { name: "new pages, depth 32", bytes: 4096, depth: 32, offset: 64 },
  { name: "512 bytes of new pages, depth 1", bytes: 512, depth: 1, offset: 128 },
  { name: "512 bytes of new pages, depth 32", bytes: 512, depth: 32, offset: 192 },
  { name: "written before, depth 1", bytes: 4096, depth: 1, offset: 256 },
  { name: "written before, depth 32", bytes: 4096, depth: 32, offset: 256 },
] as const;
const FIO = "fio --name=x --filename=/run/mnt/disk.img --allow_file_create=0 --direct=1 --ioengine=libaio";
/** In fio's terse output, version 3. */
const WRITE_IOPS = 49;

const SCRIPT = `
${FIO} --rw=write --bs=1M --iodepth=4 --offset=256M --size=64M > /run/before
${LOADS.map(
  ({ bytes, depth, offset }, index) =>
    `echo "WRITES ${index} $(${FIO} --rw=randwrite --bs=${bytes} --iodepth=${depth} --offset=${offset}M --size=64M --time_based --runtime=${SECONDS} --output-format=terse --terse-version=3 | cut -d';' -f${WRITE_IOPS})"`,
).join("\n")}
`;

interface Contender {
  readonly name: string;
  readonly mountOptions?: string;
  /** @returns its command, and the path that is mounted */
  prepare(scratch: string): Promise<{ readonly server: readonly string[]; readonly exportPath: string }>;
}

/**
 * Guest writes as they come from QEMU: 4 KiB or a sector, O_DIRECT, so FILE_SYNC on the wire, through a real Linux client in user-mode Linux.
 * Ours against NFS-Ganesha on a plain, fully written file of the same file system, interleaved.
 */
export async function benchGuestWrites(data: NoiseDisk, cliEntry: string, rounds: number): Promise<string> {
  const results = new Map<string, number[][]>();
  for (let round = 0; round < rounds; round++) {
    for (const contender of [ours(data, cliEntry), ganesha(data)]) {
      const scratch = await mkdtemp(join(data.directory, "writes-"));
      try {
        const { server, exportPath } = await contender.prepare(scratch);
        const { mountOptions } = contender;
        const options = mountOptions === undefined ? {} : { mountOptions };
        note(server);
        for (const line of SCRIPT.trim().split("\n")) note([`(in user-mode Linux) ${line}`]);
        const console = await runInUml({ script: SCRIPT, exportPath, server, ...options });
        const figures = LOADS.map((_, index) => Number(new RegExp(`WRITES ${index} (\\d+)`).exec(console)?.[1] ?? 0));
        results.set(contender.name, [...(results.get(contender.name) ?? []), figures]);
      } finally {
        await rm(scratch, { recursive: true, force: true });
      }
    }
  }
  const rows = [...results].map(([name, all]) => [
    name,
    ...LOADS.map((_, index) => {
      const figures = all.map((round) => round[index] ?? 0);
      return `${median(figures).toFixed(0)} (${Math.min(...figures)}–${Math.max(...figures)})`;
    }),
  ]);
  const title = `Guest writes, 4 KiB unless it says otherwise, O_DIRECT through the Linux NFS client, each durable before its reply (writes/s, medians and spread of ${rounds} rounds, ${SECONDS} s each)`;
  return `${title}\n\n${renderTable(["", ...LOADS.map(({ name }) => name)], rows)}`;
}

function ours(data: NoiseDisk, cliEntry: string): Contender {
  return {
    name: "VMRestore (overlay)",
    async prepare(directory) {
      const { repository: repositoryDir, password } = data;
      const options = { cliEntry, directory, repositoryDir, password, config: agentConfig(data) };
      // Started once outside, so that it makes its keys and its path; then beside the user-mode Linux.
      const agent = await AgentProcess.start({ ...options, address: "127.86.0.3" });
      // Staging would take processors and disk from what is measured: it is over before.
      const status = await agent.until(({ bootSet }) => bootSet.complete, STAGED_WITHIN_MS);
      const [disk] = status.disks;
      await agent.stop();
      const server = AgentProcess.command({ ...options, address: "10.77.0.1" });
      return { server, exportPath: disk?.exportPath ?? "" };
    },
  };
}

function ganesha(data: NoiseDisk): Contender {
  return {
    name: "NFS-Ganesha (VFS)",
    mountOptions: `mountport=${GANESHA_MOUNT_PORT}`,
    async prepare(scratch) {
      const directory = join(scratch, "exported");
      await mkdir(directory);
      await copyFile(data.disk, join(directory, "disk.img"));
      return { server: await ganeshaCommand(join(scratch, "ganesha"), directory), exportPath: directory };
    },
  };
}
