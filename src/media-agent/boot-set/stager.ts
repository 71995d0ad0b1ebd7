import type { BlobTracker } from "../blob-tracker.ts";
import type { StagedBlob } from "./blobs.ts";

export interface BootSetStagerOptions {
  readonly cache: { has(id: string): boolean };
  readonly scheduler: { stage(id: string, reason: "boot"): Promise<void> };
  readonly tracker: Pick<BlobTracker, "stored">;
  /** Blobs asked for at once. */
  readonly atOnce: number;
}

/** Progress of one disk's boot set; bytes. */
interface DiskProgress {
  readonly total: number;
  staged: number;
}

/**
 * Brings the boot sets of all disks into the cache, each in its order, the disks in turns. A repository that is away makes it wait; a
 * blob that is damaged is left out.
 */
export class BootSetStager {
  readonly #options: BootSetStagerOptions;
  readonly #disks = new Map<string, DiskProgress>();
  /** Everything is staged, or was given up. */
  complete = false;

  constructor(options: BootSetStagerOptions) {
    this.#options = options;
  }

  progress(disk: string): Readonly<DiskProgress> {
    return this.#disks.get(disk) ?? { total: 0, staged: 0 };
  }

  get total(): number {
    return sum(this.#disks.values(), ({ total }) => total);
  }

  get staged(): number {
    return sum(this.#disks.values(), ({ staged }) => staged);
  }

  /** Resolves when all was looked at; rejects with the signal's reason. */
  async run(sets: ReadonlyMap<string, readonly StagedBlob[]>, signal: AbortSignal): Promise<void> {
    for (const [disk, blobs] of sets) {
      this.#disks.set(disk, { total: sum(blobs, ({ length }) => length), staged: 0 });
    }
    const queue = inTurns(sets);
    const worker = async (): Promise<void> => {
      for (let next = queue.next(); !next.done; next = queue.next()) {
        signal.throwIfAborted();
        const { disk, blob } = next.value;
        const progress = this.#disks.get(disk);
        if ((await this.#stage(blob)) && progress !== undefined) progress.staged += blob.length;
      }
    };
    await Promise.all(Array.from({ length: this.#options.atOnce }, worker));
    this.complete = true;
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

function sum<T>(items: Iterable<T>, of: (item: T) => number): number {
  let total = 0;
  for (const item of items) total += of(item);
  return total;
}
