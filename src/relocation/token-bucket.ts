import type { Clock } from "../base/clock.ts";

/**
 * Limits a flow of bytes to a rate. Holds at most a quarter of a second's worth, so a pause does not turn into a burst.
 * Takers are served first come, first served; one that wants more than the bucket holds goes into debt, which the next
 * one waits for.
 */
export class TokenBucket {
  readonly #rate: number;
  readonly #clock: Clock;
  #level: number;
  #filledAt: number;
  #turn: Promise<void> = Promise.resolve();

  /** @param rate bytes per second, above 0 */
  constructor(rate: number, clock: Clock) {
    this.#rate = rate;
    this.#clock = clock;
    this.#level = rate / 4;
    this.#filledAt = clock.monotonic();
  }

  /** Resolves when `bytes` may flow; rejects with the signal's reason. */
  take(bytes: number, signal: AbortSignal): Promise<void> {
    const own = this.#turn.then(async () => {
      signal.throwIfAborted();
      this.#fill();
      if (this.#level < 0) {
        await this.#clock.sleep((-this.#level / this.#rate) * 1000, signal);
        this.#fill();
      }
      this.#level -= bytes;
    });
    this.#turn = own.catch(() => undefined);
    return own;
  }

  #fill(): void {
    const now = this.#clock.monotonic();
    this.#level = Math.min(this.#rate / 4, this.#level + ((now - this.#filledAt) / 1000) * this.#rate);
    this.#filledAt = now;
  }
}
