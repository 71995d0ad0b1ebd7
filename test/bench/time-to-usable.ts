import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import type { BootProfile } from "../../src/api/boot-profile.ts";
import { errorMessage } from "../../src/base/errors.ts";
import * as drives from "./drives.ts";
import { SlowRepository } from "./slow-repository.ts";
import { median, renderTable } from "./table.ts";
import type { Workplace } from "./workplace.ts";

interface Outcome {
  /** From nothing but the repository until the guest is usable, milliseconds. */
  readonly usable: number;
  /** Of that, the boot or its replay. */
  readonly boot: number;
  /** Share of the guest's reads while booting that found their data staged. */
  readonly hits: number | undefined;
  /** Over the link to the repository. */
  readonly bytes: number;
}

interface Options {
  readonly workplace: Workplace;
  readonly delayMs: number;
  readonly bytesPerSecond: number;
  readonly rounds: number;
  /** What is done with each drive, for the title. */
  readonly what: string;
  /** Uses a drive until the guest is usable, then calls `onReady`. @returns milliseconds */
  readonly use: (drive: drives.OpenDrive, onReady: () => Promise<void>) => Promise<number>;
}

/** Time until the guest is usable, for each way of getting there, over one and the same link to the repository. */
export async function benchTimeToUsable(options: Options): Promise<string> {
  const { workplace, delayMs, bytesPerSecond, rounds, what } = options;
  const link = await SlowRepository.start(workplace.repository, { delayMs, bytesPerSecond });
  const { url } = link;
  const profile: { learned: BootProfile | undefined } = { learned: undefined };
  const contenders: Record<string, drives.DriveOpener> = {
    "local disk": drives.localDisk(workplace),
    "VMRestore, cold": drives.mediaAgent(workplace, url, profile, false),
    "VMRestore, learned profile": drives.mediaAgent(workplace, url, profile, true),
    "restic mount + overlay": drives.resticMount(workplace, url, false),
    "restic mount + overlay, copy-on-read": drives.resticMount(workplace, url, true),
    "nbdkit cow, cache, readahead": drives.nbdkitFilters(workplace, url),
    "PBS-like: copy-on-read and stream": drives.streamingOverlay(workplace, url, "AtOnce"),
    "restic restore first": drives.restoredDisk(workplace, url),
  };
  const results = new Map<string, Outcome[]>();
  try {
    for (let round = 0; round < rounds; round++) {
      for (const [name, open] of Object.entries(contenders)) {
        const outcome = await measure(open, link, options);
        const shown = typeof outcome === "string" ? outcome : `${(outcome.usable / 1000).toFixed(1)} s`;
        process.stdout.write(`   round ${round + 1}: ${name}: ${shown}\n`);
        if (typeof outcome !== "string") results.set(name, [...(results.get(name) ?? []), outcome]);
      }
    }
  } finally {
    await link.close();
  }
  const title = `Time to usable: ${what}; repository behind ${delayMs} ms and ${bytesPerSecond / 1e6} MB/s; ${rounds} rounds, interleaved`;
  return `${title}\n\n${render(results)}`;
}

/** @returns how it went, or why it did not: one contender that cannot run here leaves the others alone */
async function measure(
  open: drives.DriveOpener,
  link: SlowRepository,
  { workplace, use }: Options,
): Promise<Outcome | string> {
  const scratch = await mkdtemp(join(workplace.directory, "run-"));
  let drive: drives.OpenDrive | undefined;
  try {
    link.takeCounters();
    const start = performance.now();
    drive = await open(scratch);
    const { ready } = drive;
    const prepared = performance.now() - start;
    const seen: { hits?: number | undefined; bytes: number } = { bytes: 0 };
    const boot = await use(drive, async () => {
      seen.bytes = link.takeCounters().bytes;
      seen.hits = await ready?.();
    });
    return { usable: prepared + boot, boot, hits: seen.hits, bytes: seen.bytes };
  } catch (error) {
    return `failed: ${errorMessage(error)}`;
  } finally {
    await drive?.stop();
    await rm(scratch, { recursive: true, force: true });
  }
}

function render(results: ReadonlyMap<string, readonly Outcome[]>): string {
  const floor = median((results.get("local disk") ?? []).map(({ boot }) => boot));
  const rows = [...results].map(([name, all]) => {
    // The local disk was there already: putting it in its place does not count.
    const usable = all.map(({ usable, boot }) => (name === "local disk" ? boot : usable));
    const seconds = (ms: number): string => (ms / 1000).toFixed(1);
    const hits = all.at(-1)?.hits;
    return [
      name,
      `${seconds(median(usable))} s`,
      `${seconds(Math.min(...usable))}–${seconds(Math.max(...usable))}`,
      `${(median(usable) / floor).toFixed(2)} ×`,
      `${seconds(median(all.map(({ boot }) => boot)))} s`,
      `${(median(all.map(({ bytes }) => bytes)) / 2 ** 20).toFixed(0)} MiB`,
      hits === undefined ? "" : `${(hits * 100).toFixed(1)} %`,
    ];
  });
  const head = ["", "median", "spread", "to local disk", "boot alone", "fetched", "boot-set hits"];
  return renderTable(head, rows);
}
