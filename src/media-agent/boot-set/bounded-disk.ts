import { setImmediate as nextTurn } from "node:timers/promises";
import type { Clock } from "../../base/clock.ts";
import type { BlockSource, Extent } from "../../disk/block-device.ts";

const READS = 20_000;
const BYTES = 128 * 1024 * 1024;
const MILLISECONDS = 20_000;
/** Reads after which others get their turn: what is kept is read without waiting for anything. */
const READS_AT_ONCE = 128;
/** One read of a structure. */
const READ_LIMIT = 1024 * 1024;
/** Structures are looked at in steps of a few bytes, dozens of which lie in one block of a file system: it is read once. */
const BLOCK = 4096;
const BLOCKS_KEPT = 1024;

/** The disk asks for more than it may. Parsers let it through: what they found until then counts. */
export class BudgetSpentError extends Error {}

/** A part of a disk that nobody vouches for: everything in it is hostile. */
export interface Volume {
  /** Bytes. */
  readonly size: number;
  /**
   * Bytes from `offset`, shared with others who read them; undefined where they are not all in the volume, or are more than one read may ask for.
   *
   * @throws BudgetSpentError
   */
  read(offset: number, length: number): Promise<Buffer | undefined>;
  /** Where a part of it lies on the disk, as far as it does; in order. */
  places(extent: Extent): Iterable<Extent>;
}

/**
 * A disk that is read within limits: a file system that points in circles, or claims a million directories, ends in
 * {@link BudgetSpentError}.
 */
export class BoundedDisk implements Volume {
  readonly size: number;
  readonly #source: BlockSource;
  readonly #clock: Clock;
  readonly #deadline: number;
  #reads = 0;
  #bytes = 0;
  /** By their number; the one read first goes first. */
  readonly #blocks = new Map<number, Promise<Buffer>>();

  constructor(source: BlockSource, clock: Clock) {
    this.size = source.size;
    this.#source = source;
    this.#clock = clock;
    this.#deadline = clock.monotonic() + MILLISECONDS;
  }

  places(extent: Extent): Iterable<Extent> {
    return [extent];
  }

  async read(offset: number, length: number): Promise<Buffer | undefined> {
    const isWithin = Number.isSafeInteger(offset) && offset >= 0 && length > 0 && offset + length <= this.size;
    if (!isWithin || length > READ_LIMIT) return undefined;
    this.#reads++;
    this.#bytes += length;
    if (this.#reads > READS || this.#bytes > BYTES || this.#clock.monotonic() > this.#deadline) {
      throw new BudgetSpentError("the disk's structure takes too long to read");
    }
    if (this.#reads % READS_AT_ONCE === 0) await nextTurn();
    const number = Math.floor(offset / BLOCK);
    const start = number * BLOCK;
    if (offset + length > start + BLOCK) return this.#source.read(offset, length, "staging");
    const block = await this.#block(number);
    return block.subarray(offset - start, offset - start + length);
  }

  #block(number: number): Promise<Buffer> {
    const known = this.#blocks.get(number);
    if (known !== undefined) return known;
    for (const first of this.#blocks.keys()) {
      if (this.#blocks.size < BLOCKS_KEPT) break;
      this.#blocks.delete(first);
    }
    const start = number * BLOCK;
    const block = this.#source.read(start, Math.min(BLOCK, this.size - start), "staging");
    this.#blocks.set(number, block);
    return block;
  }
}

/** A part of a volume in one piece, e.g. a partition; `extent` lies within it. */
export function partOf(whole: Volume, extent: Extent): Volume {
  return {
    size: extent.length,
    read: async (offset, length) =>
      offset >= 0 && offset + length <= extent.length ? whole.read(extent.offset + offset, length) : undefined,
    places: ({ offset, length }) => {
      const within = Math.min(length, extent.length - offset);
      return offset >= 0 && within > 0 ? whole.places({ offset: extent.offset + offset, length: within }) : [];
    },
  };
}
