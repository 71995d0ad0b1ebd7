import { expect, test } from "@jest/globals";
import type { Extent } from "../../disk/block-device.ts";
import type { RepositoryFile } from "../../repository/repository-file.ts";
import { FirstReads } from "../boot-recorder.ts";
import { blobsOf } from "../boot-set/blobs.ts";
import { blobFile } from "../testing/blob-file.ts";
import type { LearnedDisk } from "./learned-disk.ts";
import { mergeBoot } from "./merge.ts";
import { worthStaging } from "./worth-staging.ts";

const MIB = 1024 * 1024;
const PAGE = 4096;
const BLOBS = 2048;

/** Numbers in [0, 1) that are the same in each run. */
function sequence(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

/**
 * A disk of 2 GiB between backups, and a machine that boots from it as the trace of a Debian guest shows it: some 2,000 reads of 4 to 128
 * KiB, 70 MiB in all, in nearly the same order each time. One in fifty is of a log or a temporary file and another each time.
 */
class Machine {
  readonly #random = sequence(42);
  readonly #versions = new Uint32Array(BLOBS);
  readonly #trace: Extent[] = [];
  /** Superblocks, inode tables, the journal: in each backup they differ, and each boot reads them. */
  readonly #tables = Array.from({ length: 24 }, (_, index) => index * 80);

  constructor() {
    for (const blob of this.#tables) this.#trace.push({ offset: blob * MIB + 65_536, length: 8 * PAGE });
    for (let count = 0; count < 1900; count++) {
      const offset = Math.floor(this.#random() * 160) * 13 * MIB + Math.floor(this.#random() * 250) * PAGE;
      this.#trace.push({ offset, length: Math.ceil(this.#random() * 16) * PAGE });
    }
  }

  /** A day of work: some of what a boot reads is written anew elsewhere, and much of what it does not. */
  work(): void {
    for (const blob of this.#tables) this.#change(blob);
    for (let count = 0; count < 200; count++) this.#change(Math.floor(this.#random() * BLOBS));
    for (let count = 0; count < 19; count++) {
      const index = Math.floor(this.#random() * this.#trace.length);
      const moved = { offset: Math.floor(this.#random() * (BLOBS - 1)) * MIB, length: 8 * PAGE };
      const before = this.#trace[index];
      if (before === undefined || index < this.#tables.length) continue;
      this.#change(Math.floor(before.offset / MIB));
      this.#change(Math.floor(moved.offset / MIB));
      this.#trace[index] = moved;
    }
  }

  /** What the backup holds. */
  get file(): RepositoryFile {
    return blobFile([...this.#versions].map((version, index) => ({ content: `${index} ${version}`, length: MIB })));
  }

  boot(): Extent[] {
    const reads = new FirstReads(BLOBS * MIB);
    for (const [index, { offset, length }] of this.#trace.entries()) {
      reads.add(offset, length);
      if (index % 50 === 0) reads.add(Math.floor(this.#random() * (BLOBS - 1)) * MIB, 4 * PAGE);
    }
    return [...reads.extents];
  }

  #change(blob: number): void {
    this.#versions[blob] = (this.#versions[blob] ?? 0) + 1;
  }
}

/** Share of a boot's reads whose data is all in the blobs of a boot set, and what the set takes of what the reads need. */
async function measure(
  learned: LearnedDisk,
  reads: readonly Extent[],
  file: RepositoryFile,
): Promise<{ hits: number; cost: number }> {
  const staged = await blobsOf(file, (await worthStaging(learned, file)).extents, Number.POSITIVE_INFINITY);
  const ids = new Set(staged.map(({ id }) => id));
  const isHit = ({ offset, length }: Extent): boolean =>
    [...file.blobsIn(offset, length)].every(({ id }) => ids.has(id));
  const needed = await blobsOf(file, reads, Number.POSITIVE_INFINITY);
  return { hits: reads.filter(isHit).length / reads.length, cost: staged.length / needed.length };
}

test("replayed boots of a machine that works between its backups: nearly all is staged, and little in vain", async () => {
  const machine = new Machine();
  let learned: LearnedDisk = { runs: [], content: [] };
  const results: { hits: number; cost: number }[] = [];
  for (let day = 0; day < 8; day++) {
    const reads = machine.boot();
    const { file } = machine;
    results.push(await measure(learned, reads, file));
    learned = await mergeBoot(learned, reads, file);
    machine.work();
  }
  expect(results[0]?.hits).toBe(0);
  // The second boot meets changed tables for the first time; from the third on they are known for what they are.
  expect(results[1]?.hits).toBeGreaterThan(0.75);
  for (const { hits, cost } of results.slice(3)) {
    expect(hits).toBeGreaterThan(0.93);
    expect(cost).toBeLessThan(1.2);
  }
});

test("the same snapshot again: everything that each boot reads is staged, and what each reads comes first", async () => {
  const machine = new Machine();
  const { file } = machine;
  let learned: LearnedDisk = { runs: [], content: [] };
  for (let boot = 0; boot < 3; boot++) learned = await mergeBoot(learned, machine.boot(), file);
  const { hits, cost } = await measure(learned, machine.boot(), file);
  expect(hits).toBeGreaterThan(0.97);
  expect(cost).toBeLessThan(1.2);
  const always = learned.runs.filter(({ score }) => score === 22).length;
  expect(learned.runs.slice(0, always).every(({ score }) => score === 22)).toBe(true);
  expect(always / learned.runs.length).toBeGreaterThan(0.8);
});
