import type { FileBlob } from "../repository/repository-file.ts";

const MIB = 1024 * 1024;
/** A run of reads this long goes on, most of the time. */
const SEQUENCE = MIB / 2;
/** A guest keeps several reads of a sequence under way, which arrive out of order. */
const SLACK = MIB / 2;
const LARGEST_WINDOW = 16 * MIB;
/** Of each kind. */
const RUNS = 8;
/** Blobs looked at for one read. */
const LOOKS = 64;

interface Run {
  /** Where its next read is expected. */
  next: number;
  /** Bytes read in sequence. */
  length: number;
  /** Everything below it was asked for. */
  staged: number;
}

export interface ReadaheadOptions {
  readonly file: {
    readonly size: number;
    readonly blobCount: number;
    blob(index: number): FileBlob;
    indexAt(offset: number): number;
  };
  readonly cache: { has(id: string): boolean };
  readonly scheduler: { stage(id: string, reason: "readahead"): Promise<void> };
  /** Bytes read ahead of one run, at most. */
  readonly windowBytes: number;
}

/**
 * Reads ahead of a guest that reads a disk in sequence: half as far as the run is long already, up to a window, so that a wrong
 * guess never costs more than a part of what was read. Random reads between change nothing, and start nothing.
 */
export class Readahead {
  readonly #options: ReadaheadOptions;
  readonly #window: number;
  /** Those that are long enough, and those that may become so: random reads drive out only the latter. The last used is the last. */
  readonly #sequences: Run[] = [];
  readonly #beginnings: Run[] = [];

  constructor(options: ReadaheadOptions) {
    this.#options = options;
    this.#window = Math.min(LARGEST_WINDOW, options.windowBytes);
  }

  /** Takes note of a guest's read. Never waits. */
  read(offset: number, length: number): void {
    const run = take(this.#sequences, offset) ??
      take(this.#beginnings, offset) ?? { next: offset, length: 0, staged: 0 };
    // Only what goes on counts: a page that is read again and again is no sequence.
    run.length += Math.max(0, Math.min(length, offset + length - run.next));
    run.next = Math.max(run.next, offset + length);
    const runs = run.length < SEQUENCE ? this.#beginnings : this.#sequences;
    runs.push(run);
    if (runs.length > RUNS) runs.shift();
    if (run.length >= SEQUENCE) this.#stage(run);
  }

  #stage(run: Run): void {
    const { file, cache, scheduler } = this.#options;
    const until = Math.min(file.size, run.next + Math.min(this.#window, run.length / 2));
    let at = Math.max(run.staged, run.next);
    for (let looks = 0; at < until && looks < LOOKS; looks++) {
      const { id, offset, length, zero } = file.blob(file.indexAt(at));
      if (!zero && !cache.has(id)) scheduler.stage(id, "readahead").catch(() => undefined);
      at = offset + length;
    }
    run.staged = at;
  }
}

function take(runs: Run[], offset: number): Run | undefined {
  const index = runs.findIndex(({ next }) => offset >= next - SLACK && offset <= next + SLACK);
  return index < 0 ? undefined : runs.splice(index, 1)[0];
}
