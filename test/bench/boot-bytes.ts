import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import type { BootProfile } from "../../src/api/boot-profile.ts";
import { LocalBackend } from "../../src/repository/backends/local.ts";
import { Repository } from "../../src/repository/repository.ts";
import { type TraceEvent, traceSize } from "./boot-trace.ts";
import { run } from "./commands.ts";
import { mediaAgent } from "./drives.ts";
import { dropCaches } from "./drop-caches.ts";
import { replayTrace } from "./replay.ts";
import { type Link, SlowRepository } from "./slow-repository.ts";
import { median, renderTable } from "./table.ts";
import type { Workplace } from "./workplace.ts";

const STAGED_WITHIN_MS = 120_000;

interface Fetched {
  /** Over the link, index and trees too, when the last read had its answer. */
  readonly link: number;
  /** As the agent counts it, at the same moment. */
  readonly agent: number;
  /** Over the link once the boot set is complete. */
  readonly staged: number;
  readonly hits: number;
}

/**
 * What is fetched from the repository until a recorded boot has read all it reads, against the stored size of the blobs that hold just
 * that, and against a cache that fetches chunks of a fixed size (computed from the trace: bytes take no clock).
 */
export async function benchBootBytes(
  workplace: Workplace,
  trace: readonly TraceEvent[],
  links: readonly Link[],
  rounds: number,
): Promise<string> {
  const needed = await neededBytes(workplace, trace);
  const { bytes, chunked } = traceSize(trace);
  const mib = (count: number): string => `${(count / 2 ** 20).toFixed(1)} MiB`;
  const ratio = (count: number): string => `${(count / needed.stored).toFixed(2)} ×`;
  const rows = [
    ["what the guest reads", mib(bytes), "", "", "", ""],
    [`${needed.blobs} blobs that hold it, as stored`, mib(needed.stored), ratio(needed.stored), "", "", ""],
    ["the same, plain", mib(needed.plain), ratio(needed.plain), "", "", ""],
    ["4 MiB chunks, 256 MB LRU (computed, plain)", mib(chunked), ratio(chunked), "", "", ""],
  ];
  for (const link of links) {
    const results = await measureAll(workplace, trace, link, rounds);
    for (const [name, all] of results) {
      const middle = (of: (fetched: Fetched) => number): number => median(all.map(of));
      const fetched = middle(({ link }) => link);
      rows.push([
        `${name}, ${link.delayMs} ms`,
        mib(fetched),
        ratio(fetched),
        mib(middle(({ agent }) => agent)),
        mib(middle(({ staged }) => staged)),
        `${(middle(({ hits }) => hits) * 100).toFixed(1)} %`,
      ]);
    }
  }
  const head = ["", "until usable", "to those blobs", "agent's own count", "boot set complete", "boot-set hits"];
  return `Bytes fetched from the repository until a recorded boot is through (medians of ${rounds} rounds)\n\n${renderTable(head, rows)}`;
}

async function measureAll(
  workplace: Workplace,
  trace: readonly TraceEvent[],
  link: Link,
  rounds: number,
): Promise<Map<string, Fetched[]>> {
  const repository = await SlowRepository.start(workplace.repository, link);
  const results = new Map<string, Fetched[]>();
  const profile: { learned: BootProfile | undefined } = { learned: undefined };
  try {
    for (let round = 0; round < rounds; round++) {
      for (const withProfile of [false, true]) {
        const name = withProfile ? "VMRestore, learned profile" : "VMRestore, cold";
        await dropCaches(workplace.repository);
        const fetched = await measure(workplace, trace, repository, profile, withProfile);
        results.set(name, [...(results.get(name) ?? []), fetched]);
      }
    }
  } finally {
    await repository.close();
  }
  return results;
}

async function measure(
  workplace: Workplace,
  trace: readonly TraceEvent[],
  repository: SlowRepository,
  profile: { learned: BootProfile | undefined },
  withProfile: boolean,
): Promise<Fetched> {
  const scratch = await mkdtemp(join(workplace.directory, "run-"));
  repository.takeCounters();
  try {
    const drive = await mediaAgent(workplace, repository.url, profile, withProfile)(scratch);
    const { agent, ready } = drive;
    try {
      if (agent === undefined || ready === undefined) throw new Error("the drive is not a media agent's");
      const seen = { link: 0, agent: 0, hits: 0 };
      await replayTrace(drive, trace, async () => {
        seen.link = repository.takeCounters().bytes;
        seen.agent = (await agent.control.status()).repository.bytesFetched;
        seen.hits = await ready();
      });
      await agent.until(({ bootSet }) => bootSet.complete, STAGED_WITHIN_MS);
      return { ...seen, staged: seen.link + repository.takeCounters().bytes };
    } finally {
      await drive.stop();
    }
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** The blobs that a trace touches, those of zeros left out: nobody has to fetch them. */
async function neededBytes(
  workplace: Workplace,
  trace: readonly TraceEvent[],
): Promise<{ blobs: number; stored: number; plain: number }> {
  const repository = await Repository.open(new LocalBackend(workplace.repository), workplace.password);
  try {
    const tree = await repository.browse(await repository.snapshot(workplace.snapshot));
    const [file] = await repository.openFiles([await tree.file(`/${workplace.image}`)]);
    if (file === undefined) throw new Error("the disk is not in the snapshot");
    const plain = new Map<string, number>();
    for (const event of trace) {
      if (event.length === 1) continue;
      for (const { id, length, zero } of file.blobsIn(...event)) if (!zero) plain.set(id, length);
    }
    const stored = await storedLengths(workplace);
    const sum = (lengths: Iterable<number>): number => [...lengths].reduce((total, length) => total + length, 0);
    return {
      blobs: plain.size,
      stored: sum([...plain.keys()].map((id) => stored.get(id) ?? 0)),
      plain: sum(plain.values()),
    };
  } finally {
    await repository.close();
  }
}

/** Bytes that each blob takes in its pack, from restic itself. */
async function storedLengths({ repository, passwordFile }: Workplace): Promise<Map<string, number>> {
  const restic = async (...args: string[]): Promise<string> =>
    (await run("restic", ["--no-cache", "--no-lock", "-q", "-r", repository, "-p", passwordFile, ...args])).stdout;
  const lengths = new Map<string, number>();
  for (const id of (await restic("list", "index")).split("\n").filter(Boolean)) {
    const index = JSON.parse(await restic("cat", "index", id)) as {
      packs: { blobs: { id: string; length: number }[] }[];
    };
    for (const { blobs } of index.packs) for (const blob of blobs) lengths.set(blob.id, blob.length);
  }
  return lengths;
}
