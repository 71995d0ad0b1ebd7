import type { BlobTracker } from "../blob-tracker.ts";
import type { StagedBlob } from "./blobs.ts";

export interface BootSetStagerOptions {
  readonly cache: { has(id: string): boolean };
  readonly scheduler: { stage(id: string, reason: "boot"): Promise<void> };
  readonly tracker: Pick<BlobTracker, "stored">;
  /** Blobs asked for at once. */
  readonly atOnce: number;
}

/** Progress of a boot set; bytes. */
interface Progress {
  total: number;
  staged: number;
}

/** A blob, and the disks whose boot sets it belongs to. */
interface Wanted extends StagedBlob {
  readonly disks: Progress[];
}

/**
 * Brings the boot sets of all disks into the cache, each in its order, the disks in turns, what they share once. A repository that is away makes it wait; a
 * blob that is damaged is left out.
 */
export class BootSetStager {
  readonly #options: BootSetStagerOptions;
  readonly #disks = new Map<string, Progress>();
  readonly #all: Progress = { total: 0, staged: 0 };
  /** Everything is staged, or was given up. */
  complete = false;

  constructor(options: BootSetStagerOptions) {
    this.#options = options;
  }

  progress(disk: string): Readonly<Progress> {
    return this.#disks.get(disk) ?? { total: 0, staged: 0 };
  }

  /** Bytes of all boot sets; blobs that disks share count once. */
  get total(): number {
    return this.#all.total;
  }

  get staged(): number {
    return this.#all.staged;
  }

  /** Resolves when all was looked at; rejects with the signal's reason. */
  async run(sets: ReadonlyMap<string, readonly StagedBlob[]>, signal: AbortSignal): Promise<void> {
    const queue = this.#queue(sets).values();
    const worker = async (): Promise<void> => {
      for (let next = queue.next(); !next.done; next = queue.next()) {
        signal.throwIfAborted();
        const blob = next.value;
        if (!(await this.#stage(blob))) continue;
        for (const progress of [this.#all, ...blob.disks]) progress.staged += blob.length;
      }
    };
    await Promise.all(Array.from({ length: this.#options.atOnce }, worker));
    this.complete = true;
  }

  #queue(sets: ReadonlyMap<string, readonly StagedBlob[]>): Map<string, Wanted> {
    const wanted = new Map<string, Wanted>();
    for (const disk of sets.keys()) this.#disks.set(disk, { total: 0, staged: 0 });
    for (const { disk, blob } of inTurns(sets)) {
      const known = wanted.get(blob.id);
      const progress = this.#disks.get(disk);
      if (known === undefined) this.#all.total += blob.length;
      const entry = known ?? { ...blob, disks: [] };
      if (progress !== undefined) {
        progress.total += blob.length;
        entry.disks.push(progress);
      }
      wanted.set(blob.id, entry);
    }
    return wanted;
  }

  async #stage({ id, length }: StagedBlob): Promise<boolean> {
    const { cache, scheduler, tracker } = this.#options;
    if (cache.has(id)) {
      tracker.stored(id, length, "boot");
      return true;
    }
    await scheduler.stage(id, "boot").catch(() => undefined);
    return cache.has(id);
  }
}

function* inTurns(sets: ReadonlyMap<string, readonly StagedBlob[]>): Generator<{ disk: string; blob: StagedBlob }> {
  const longest = Math.max(0, ...[...sets.values()].map(({ length }) => length));
  for (let index = 0; index < longest; index++) {
    for (const [disk, blobs] of sets) {
      const blob = blobs[index];
      if (blob !== undefined) yield { disk, blob };
    }
  }
}
