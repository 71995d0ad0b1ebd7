import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import type { BootProfile } from "../../src/api/boot-profile.ts";
import { errorMessage } from "../../src/base/errors.ts";
import type { TraceEvent } from "./boot-trace.ts";
import * as drives from "./drives.ts";
import { dropCaches } from "./drop-caches.ts";
import { replayTrace } from "./replay.ts";
import { SharingGroup } from "./sharing.ts";
import { SlowRepository } from "./slow-repository.ts";
import { median, renderTable } from "./table.ts";
import type { Workplace } from "./workplace.ts";

const COUNTS = [1, 4, 8] as const;
/** Of the kernel's clock that processor time is told in (`getconf CLK_TCK`; 100 on every Linux that is met). */
const TICKS_PER_SECOND = 100;

interface Outcome {
  /** Seconds until each machine was usable. */
  readonly usable: readonly number[];
  readonly bytes: number;
  /** Of all processes on this machine. */
  readonly cpuSeconds: number;
}

interface Options {
  readonly workplace: Workplace;
  readonly trace: readonly TraceEvent[];
  readonly delayMs: number;
  readonly bytesPerSecond: number;
  readonly rounds: number;
}

/**
 * Several machines of one image begin at once, each with all that one has for itself alone (as each VMRestore has an agent of its own);
 * their boots' reads are replayed without time to think. One link to the repository for all of them. The agents share what they fetch, as
 * those of one namespace and one BackupRepository do, but for those that are told of nobody.
 */
export async function benchMachines(options: Options): Promise<string> {
  const { workplace, delayMs, bytesPerSecond, rounds } = options;
  const link = await SlowRepository.start(workplace.repository, { delayMs, bytesPerSecond });
  const { url } = link;
  const profile: { learned: BootProfile | undefined } = { learned: undefined };
  const contenders: Record<string, drives.DriveOpener> = {
    "local disk": drives.localDisk(workplace),
    "VMRestore, cold": drives.mediaAgent(workplace, url, profile, false, new SharingGroup()),
    "VMRestore, learned profile": drives.mediaAgent(workplace, url, profile, true, new SharingGroup()),
    "VMRestore, learned profile, nothing shared": drives.mediaAgent(workplace, url, profile, true),
    "restic mount + overlay": drives.resticMount(workplace, url, false),
    "nbdkit cow, cache, readahead": drives.nbdkitFilters(workplace, url),
    "PBS-like: copy-on-read and stream": drives.streamingOverlay(workplace, url, "AtOnce"),
  };
  const results = new Map<string, Outcome[]>();
  try {
    for (let round = 0; round < rounds; round++) {
      for (const count of COUNTS) {
        for (const [name, open] of Object.entries(contenders)) {
          await dropCaches(workplace.repository);
          const outcome = await measure(open, name === "local disk", count, link, options);
          const told = typeof outcome === "string" ? outcome : `last after ${Math.max(...outcome.usable).toFixed(1)} s`;
          process.stdout.write(`   round ${round + 1}: ${count} × ${name}: ${told}\n`);
          const key = `${name} ${count}`;
          if (typeof outcome !== "string") results.set(key, [...(results.get(key) ?? []), outcome]);
        }
      }
    }
  } finally {
    await link.close();
  }
  const title = `Several machines of one image at once, boots replayed without time to think; one link of ${delayMs} ms and ${bytesPerSecond / 1e6} MB/s; ${rounds} rounds, interleaved`;
  return `${title}\n\n${render(Object.keys(contenders), results)}`;
}

/** @returns how it went, or why it did not: one contender that cannot run here leaves the others alone */
async function measure(
  open: drives.DriveOpener,
  isThere: boolean,
  count: number,
  link: SlowRepository,
  { workplace, trace }: Options,
): Promise<Outcome | string> {
  const scratch = await mkdtemp(join(workplace.directory, "run-"));
  const opened: drives.OpenDrive[] = [];
  const openOne = async (index: number): Promise<drives.OpenDrive> => {
    const directory = join(scratch, String(index));
    await mkdir(directory);
    const drive = await open(directory);
    opened.push(drive);
    return drive;
  };
  const all = <T>(one: (index: number) => Promise<T>): Promise<T[]> =>
    // All come to their end before anything is taken from below them.
    Promise.allSettled(Array.from({ length: count }, (_, index) => one(index))).then((ended) =>
      ended.map((each) => {
        if (each.status === "rejected") throw each.reason;
        return each.value;
      }),
    );
  try {
    // A local disk is there already: putting it in its place does not count.
    const there = isThere ? await all(openOne) : [];
    link.takeCounters();
    let bytes = 0;
    const [start, cpu] = [performance.now(), await busySeconds()];
    const usable = await all(async (index) => {
      const drive = there[index] ?? (await openOne(index));
      let at = 0;
      await replayTrace(drive, trace, async () => {
        at = performance.now();
        bytes += link.takeCounters().bytes;
        await drive.ready?.();
      });
      return (at - start) / 1000;
    });
    return { usable, bytes, cpuSeconds: (await busySeconds()) - cpu };
  } catch (error) {
    return `failed: ${errorMessage(error)}`;
  } finally {
    for (const drive of opened) await drive.stop();
    await rm(scratch, { recursive: true, force: true });
  }
}

/** Processor time of the whole machine, idle and waiting left out. */
async function busySeconds(): Promise<number> {
  const [line = ""] = (await readFile("/proc/stat", "latin1")).split("\n");
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0] = line.split(/\s+/).slice(1).map(Number);
  return (user + nice + system + irq + softirq) / TICKS_PER_SECOND;
}

function render(names: readonly string[], results: ReadonlyMap<string, readonly Outcome[]>): string {
  const rows: string[][] = [];
  for (const name of names) {
    const last = (count: number): number[] =>
      (results.get(`${name} ${count}`) ?? []).map(({ usable }) => Math.max(...usable));
    for (const count of COUNTS) {
      const all = results.get(`${name} ${count}`) ?? [];
      if (all.length === 0) continue;
      const lasts = last(count);
      const alone = median(last(1));
      rows.push([
        `${count} × ${name}`,
        `${median(lasts).toFixed(1)} s`,
        `${Math.min(...lasts).toFixed(1)}–${Math.max(...lasts).toFixed(1)}`,
        `${median(all.map(({ usable }) => median(usable))).toFixed(1)} s`,
        alone > 0 ? `${(median(lasts) / alone).toFixed(2)} ×` : "",
        `${(median(all.map(({ bytes }) => bytes)) / 2 ** 20).toFixed(0)} MiB`,
        `${median(all.map(({ cpuSeconds }) => cpuSeconds)).toFixed(1)} s`,
      ]);
    }
  }
  const head = [
    "",
    "last usable",
    "spread",
    "median usable",
    "last, to one alone",
    "fetched in all",
    "processor, whole machine",
  ];
  return renderTable(head, rows);
}
