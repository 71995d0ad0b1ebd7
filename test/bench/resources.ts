import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { AgentProcess } from "./agent-process.ts";
import type { TraceEvent } from "./boot-trace.ts";
import { relocate } from "./relocation.ts";
import { replayTrace } from "./replay.ts";
import { SlowRepository } from "./slow-repository.ts";
import { renderTable } from "./table.ts";
import { type Usage, watchProcess } from "./watch-process.ts";
import type { Workplace } from "./workplace.ts";

const IDLE_MS = 5_000;
const BOOT_SET_LIMIT_MS = 60_000;
const LINK = { delayMs: 5, bytesPerSecond: 50e6 };

/** Processor time and memory of one media agent: idle, while a guest boots (its reads, replayed), while its disk relocates. */
export async function benchResources(workplace: Workplace, trace: readonly TraceEvent[]): Promise<string> {
  const scratch = await mkdtemp(join(workplace.directory, "resources-"));
  const link = await SlowRepository.start(workplace.repository, LINK);
  const agent = await AgentProcess.start({
    cliEntry: workplace.cliEntry,
    directory: scratch,
    address: "127.87.0.1",
    repositoryDir: "/nonexistent",
    password: workplace.password,
    config: {
      repository: { rest: { url: link.url } },
      snapshot: { id: workplace.snapshot, pin: false },
      disks: [{ name: "root", path: "/disks/root.img", format: "raw", size: workplace.diskBytes }],
      cache: { sizeBytes: 4 * 2 ** 30 },
    },
  });
  const usages: [string, Usage][] = [];
  const during = async (name: string, body: () => Promise<unknown>): Promise<void> => {
    const stop = await watchProcess(agent.pid);
    await body();
    usages.push([name, await stop()]);
  };
  try {
    await during("staging the boot set", async () => {
      await agent.control.setPhase("Staging");
      await agent.until((status) => status.bootSet.complete, BOOT_SET_LIMIT_MS);
    });
    await during("idle", () => delay(IDLE_MS));
    await during("booting", async () => {
      await agent.control.setPhase("Booting");
      const { disks } = await agent.control.status();
      const file = `nfs://${agent.address}${disks[0]?.exportPath}/disk.img`;
      const drive = { drive: "", qemuNbd: ["-f", "raw", file], stop: async () => {} };
      await replayTrace(drive, trace, async () => {});
      await agent.control.setPhase("Ready");
    });
    await during("relocating", async () => {
      await agent.control.setPhase("Relocating");
      const target = join(scratch, "target");
      await mkdir(target);
      await relocate(agent, workplace.cliEntry, target);
    });
  } finally {
    await agent.stop();
    await link.close();
    await rm(scratch, { recursive: true, force: true });
  }
  const rows = usages.map(([name, { seconds, cpuSeconds, peakBytes }]) => [
    name,
    seconds.toFixed(1),
    cpuSeconds.toFixed(2),
    `${((cpuSeconds / seconds) * 100).toFixed(1)} %`,
    (peakBytes / 2 ** 20).toFixed(0),
  ]);
  const title = `The media agent's processor time and memory (repository behind ${LINK.delayMs} ms and ${LINK.bytesPerSecond / 1e6} MB/s)`;
  const head = ["", "seconds", "CPU seconds", "of one core", "most memory besides the page cache (MiB)"];
  return `${title}\n\n${renderTable(head, rows)}`;
}
