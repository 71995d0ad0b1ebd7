import type { BlobTracker } from "../blob-tracker.ts";
import type { StagedBlob } from "./blobs.ts";

export interface BootSetStagerOptions {
  readonly cache: { has(id: string): boolean };
  readonly scheduler: { stage(id: string, reason: "boot"): Promise<void> };
  readonly tracker: Pick<BlobTracker, "stored">;
  /** Blobs asked for at once. */
  readonly atOnce: number;
  /** Whether a boot still needs what is not here: once the guest is up, nothing more is fetched for it. */
  readonly isWanted: () => boolean;
}

/** Progress of a boot set; bytes. */
interface Progress {
  total: number;
  staged: number;
}

/** A blob, and the disks whose boot sets it belongs to. */
interface Wanted extends StagedBlob {
  readonly disks: Set<Progress>;
  isStaged: boolean;
}

/**
 * Brings the boot sets of all disks into the cache, each in its order, the disks in turns, what they share once. A repository that is
 * away makes it wait; a blob that is damaged is left out.
 */
export class BootSetStager {
  readonly #options: BootSetStagerOptions;
  readonly #disks = new Map<string, Progress>();
  readonly #all: Progress = { total: 0, staged: 0 };
  readonly #blobs = new Map<string, Wanted>();
  /** Everything that is to be staged is known. */
  chosen = false;
  /** Everything is staged, or was given up. */
  complete = false;

  constructor(options: BootSetStagerOptions) {
    this.#options = options;
  }

  progress(disk: string): Readonly<Progress> {
    return this.#disks.get(disk) ?? { total: 0, staged: 0 };
  }

  /** Bytes of all boot sets, blobs that disks share counted once; 0 until all are chosen. */
  get total(): number {
    return this.chosen ? this.#all.total : 0;
  }

  /** Those of them that are staged; 0 until all are chosen, so that nobody takes a part for the whole. */
  get staged(): number {
    return this.chosen ? this.#all.staged : 0;
  }

  /** Stages these too. Resolves when all of them were looked at; rejects with the signal's reason. */
  async run(sets: ReadonlyMap<string, readonly StagedBlob[]>, signal: AbortSignal): Promise<void> {
    const queue = this.#queue(sets).values();
    const worker = async (): Promise<void> => {
      for (let next = queue.next(); !next.done; next = queue.next()) {
        signal.throwIfAborted();
        const blob = next.value;
        blob.isStaged = await this.#stage(blob);
        if (!blob.isStaged) continue;
        for (const progress of [this.#all, ...blob.disks]) progress.staged += blob.length;
      }
    };
    await Promise.all(Array.from({ length: this.#options.atOnce }, worker));
  }

  /** The blobs that nobody has asked for yet, in order. */
  #queue(sets: ReadonlyMap<string, readonly StagedBlob[]>): Wanted[] {
    const queue: Wanted[] = [];
    for (const { disk, blob } of inTurns(sets)) {
      const progress = this.#disks.get(disk) ?? { total: 0, staged: 0 };
      this.#disks.set(disk, progress);
      const known = this.#blobs.get(blob.id);
      const wanted = known ?? { ...blob, disks: new Set(), isStaged: false };
      if (known === undefined) {
        this.#blobs.set(blob.id, wanted);
        this.#all.total += blob.length;
        queue.push(wanted);
      }
      if (wanted.disks.has(progress)) continue;
      wanted.disks.add(progress);
      progress.total += blob.length;
      if (wanted.isStaged) progress.staged += blob.length;
    }
    return queue;
  }

  async #stage({ id, length }: StagedBlob): Promise<boolean> {
    const { cache, scheduler, tracker, isWanted } = this.#options;
    if (cache.has(id)) {
      tracker.stored(id, length, "boot");
      return true;
    }
    if (!isWanted()) return false;
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
