import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { AGENT_PORTS } from "../../src/api/agent-config.ts";
import { run } from "./commands.ts";
import * as drives from "./drives.ts";
import { dropCaches } from "./drop-caches.ts";
import { relocate } from "./relocation.ts";
import { withReader } from "./replay.ts";
import { SlowRepository } from "./slow-repository.ts";
import { median, renderTable } from "./table.ts";
import type { Workplace } from "./workplace.ts";

const PAGE = 4096;
/** What the guest has read before the relocation begins: the middle of the disk, so that a copy from either end comes to it late. */
const WARM_BYTES = 32 * 2 ** 20;
const PIECE = 2 ** 20;

interface Outcome {
  readonly seconds: number;
  /** Milliseconds each. */
  readonly cached: readonly number[];
  readonly uncached: readonly number[];
}

type Mover = (drive: drives.OpenDrive, scratch: string) => Promise<void>;

interface Options {
  readonly workplace: Workplace;
  readonly delayMs: number;
  readonly bytesPerSecond: number;
  readonly rounds: number;
}

/**
 * A guest reads 4 KiB at random places, one read after the other, by turns from what it had read before and from elsewhere, while its
 * disk relocates. Ours, nbdcopy from the same agent in the Job's place (what the copy alone could reach), and the stand-in.
 */
export async function benchReadsDuringRelocation(options: Options): Promise<string> {
  const { workplace, delayMs, bytesPerSecond, rounds } = options;
  const link = await SlowRepository.start(workplace.repository, { delayMs, bytesPerSecond });
  const { url } = link;
  const agent = (): drives.DriveOpener => drives.mediaAgent(workplace, url, { learned: undefined }, false);
  const ours: Mover = ({ agent }, scratch) => {
    if (agent === undefined) throw new Error("the drive is not a media agent's");
    return relocate(agent, workplace.cliEntry, scratch);
  };
  const nbdcopy: Mover = async ({ agent }, scratch) => {
    const uri = `nbds://${agent?.address}:${AGENT_PORTS.nbd}/root?tls-certificates=${agent?.tlsDir}`;
    await run("nbdcopy", ["--flush", uri, join(scratch, "disk.img")]);
  };
  const contenders: Record<string, { open: drives.DriveOpener; move: Mover }> = {
    "VMRestore relocate": { open: agent(), move: ours },
    "nbdcopy --flush from the same agent": { open: agent(), move: nbdcopy },
    "PBS-like: copy-on-read and stream": {
      open: drives.streamingOverlay(workplace, url, "WhenAsked"),
      move: async (drive) => drive.relocate?.(),
    },
  };
  const results = new Map<string, Outcome[]>();
  try {
    for (let round = 0; round < rounds; round++) {
      for (const [name, { open, move }] of Object.entries(contenders)) {
        await dropCaches(workplace.repository);
        const outcome = await measure(open, move, workplace);
        process.stdout.write(`   round ${round + 1}: ${name}: ${outcome.seconds.toFixed(1)} s\n`);
        results.set(name, [...(results.get(name) ?? []), outcome]);
      }
    }
  } finally {
    await link.close();
  }
  const title = `Guest reads of 4 KiB while ${workplace.diskBytes / 2 ** 20} MiB relocate; repository behind ${delayMs} ms and ${bytesPerSecond / 1e6} MB/s; ${rounds} rounds, interleaved (p50 / p99 / most, ms)`;
  return `${title}\n\n${render(results, workplace.diskBytes)}`;
}

async function measure(open: drives.DriveOpener, move: Mover, workplace: Workplace): Promise<Outcome> {
  const scratch = await mkdtemp(join(workplace.directory, "run-"));
  const target = join(scratch, "target");
  await mkdir(target);
  const drive = await open(scratch);
  try {
    return await withReader(drive, async (client) => {
      const warm = Math.floor((workplace.diskBytes - WARM_BYTES) / 2 / PIECE) * PIECE;
      for (let at = warm; at < warm + WARM_BYTES; at += PIECE) await client.read(at, PIECE);
      await drive.agent?.control.setPhase("Ready");
      await drive.agent?.control.setPhase("Relocating");
      const random = repeatable();
      const page = (from: number, bytes: number): number => from + Math.floor((random() * bytes) / PAGE) * PAGE;
      const elsewhere = (): number => {
        const at = page(0, workplace.diskBytes - WARM_BYTES);
        return at < warm ? at : at + WARM_BYTES;
      };
      let moving = true;
      const start = performance.now();
      const moved = move(drive, target).finally(() => {
        moving = false;
      });
      const outcome = { cached: [] as number[], uncached: [] as number[] };
      const timed = async (into: number[], at: number): Promise<void> => {
        const begun = performance.now();
        await client.read(at, PAGE);
        into.push(performance.now() - begun);
      };
      const reading = (async () => {
        while (moving) {
          await timed(outcome.cached, page(warm, WARM_BYTES));
          await timed(outcome.uncached, elsewhere());
        }
      })();
      await moved;
      const seconds = (performance.now() - start) / 1000;
      await reading;
      return { seconds, ...outcome };
    });
  } finally {
    await drive.stop();
    await rm(scratch, { recursive: true, force: true });
  }
}

/** The same places for every contender. @returns numbers in [0, 1) */
function repeatable(): () => number {
  let state = 1;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

function render(results: ReadonlyMap<string, readonly Outcome[]>, bytes: number): string {
  const latencies = (rounds: readonly (readonly number[])[]): string =>
    [0.5, 0.99, 1]
      .map((share) =>
        median(
          rounds.map((all) => {
            const sorted = [...all].sort((a, b) => a - b);
            return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? 0;
          }),
        ).toFixed(1),
      )
      .join(" / ");
  const rows = [...results].map(([name, all]) => {
    const seconds = all.map((outcome) => outcome.seconds);
    return [
      name,
      latencies(all.map(({ cached }) => cached)),
      latencies(all.map(({ uncached }) => uncached)),
      median(all.map(({ cached }) => cached.length * 2)).toFixed(0),
      `${median(seconds).toFixed(1)} s`,
      `${Math.min(...seconds).toFixed(1)}–${Math.max(...seconds).toFixed(1)}`,
      (bytes / 2 ** 20 / median(seconds)).toFixed(1),
    ];
  });
  const head = ["", "read before", "not read before", "reads", "relocation", "spread", "MiB/s"];
  return renderTable(head, rows);
}
