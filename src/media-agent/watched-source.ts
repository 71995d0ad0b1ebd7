import type { Clock } from "../base/clock.ts";
import type { AllocatedExtent, BlockSource, ReadClass } from "../disk/block-device.ts";

/** Another source, with a look at how long its reads wait. */
export class WatchedSource implements BlockSource {
  readonly size: number;
  readonly #source: BlockSource;
  readonly #clock: Clock;
  /** When each read under way began, oldest first. */
  readonly #reads = new Set<{ readonly since: number }>();

  constructor(source: BlockSource, clock: Clock) {
    this.size = source.size;
    this.#source = source;
    this.#clock = clock;
  }

  /** Milliseconds that the oldest read has been waiting; 0 where none is. */
  get longestWait(): number {
    const [oldest] = this.#reads;
    return oldest === undefined ? 0 : this.#clock.monotonic() - oldest.since;
  }

  async read(offset: number, length: number, readClass: ReadClass, into?: Buffer): Promise<Buffer> {
    const read = { since: this.#clock.monotonic() };
    this.#reads.add(read);
    try {
      return await this.#source.read(offset, length, readClass, into);
    } finally {
      this.#reads.delete(read);
    }
  }

  extents(offset: number, length: number): AllocatedExtent[] {
    return this.#source.extents(offset, length);
  }
}
