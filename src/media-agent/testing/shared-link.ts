import type { Clock } from "../../base/clock.ts";

/** Bytes after which a request lets the others have their turn. */
const PIECE = 64 * 1024;

export interface SharedLinkOptions {
  readonly clock: Clock;
  /** Between a request and the first byte of its answer. */
  readonly delayMs: number;
  /** Of all requests together. */
  readonly bytesPerSecond: number;
}

/** A link to a repository that answers at once: requests under way share its rate evenly. */
export class SharedLink {
  readonly #options: SharedLinkOptions;
  /** When all is through that was put on it. */
  #freeAt = 0;

  constructor(options: SharedLinkOptions) {
    this.#options = options;
  }

  /** Milliseconds of a request that has the link to itself. */
  alone(bytes: number): number {
    return this.#options.delayMs + (1000 * bytes) / this.#options.bytesPerSecond;
  }

  /** Resolves when the answer of that many bytes is there. */
  async request(bytes: number): Promise<void> {
    const { clock, delayMs, bytesPerSecond } = this.#options;
    await clock.sleep(delayMs);
    for (let left = bytes; left > 0; left -= PIECE) {
      const now = clock.monotonic();
      this.#freeAt = Math.max(now, this.#freeAt) + (1000 * Math.min(PIECE, left)) / bytesPerSecond;
      await clock.sleep(this.#freeAt - now);
    }
  }
}
