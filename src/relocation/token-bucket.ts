import type { Clock } from "../base/clock.ts";
import { withEither } from "../base/either-signal.ts";

/**
 * Limits a flow of bytes to a rate. Holds at most a quarter of a second's worth, so a pause does not turn into a burst.
 * Takers are served first come, first served; one that wants more than the bucket holds goes into debt, which the next
 * one waits for.
 */
export class TokenBucket {
  readonly #clock: Clock;
  #rate: number;
  #level: number;
  #filledAt: number;
  #turn: Promise<void> = Promise.resolve();
  /** Wakes the one that waits for a debt: with another rate it is paid at another time. */
  #changed = new AbortController();

  /** @param rate bytes per second, above 0; Infinity: no limit */
  constructor(rate: number, clock: Clock) {
    this.#clock = clock;
    this.#rate = rate;
    this.#level = most(rate);
    this.#filledAt = clock.monotonic();
  }

  /** Bytes per second; Infinity: no limit. */
  get rate(): number {
    return this.#rate;
  }

  /** From now on. Debts stay, and are paid at the new rate. */
  set rate(rate: number) {
    if (rate === this.#rate) return;
    this.#fill();
    this.#rate = rate;
    this.#level = Math.min(this.#level, most(rate));
    this.#changed.abort(new Error("the rate was changed"));
    this.#changed = new AbortController();
  }

  /** Resolves when `bytes` may flow; rejects with the signal's reason. */
  take(bytes: number, signal: AbortSignal): Promise<void> {
    const own = this.#turn.then(async () => {
      signal.throwIfAborted();
      this.#fill();
      while (this.#level < 0) {
        const changed = this.#changed.signal;
        const wait = (-this.#level / this.#rate) * 1000;
        await withEither([signal, changed], (either) => this.#clock.sleep(wait, either)).catch((error: unknown) => {
          if (!changed.aborted || signal.aborted) throw error;
        });
        this.#fill();
        // What is left of the debt is less than a byte's worth: the clock's grain.
        if (!changed.aborted) this.#level = Math.max(0, this.#level);
      }
      if (this.#rate !== Number.POSITIVE_INFINITY) this.#level -= bytes;
    });
    this.#turn = own.catch(() => undefined);
    return own;
  }

  #fill(): void {
    const now = this.#clock.monotonic();
    const passed = (now - this.#filledAt) / 1000;
    this.#level =
      this.#rate === Number.POSITIVE_INFINITY ? 0 : Math.min(most(this.#rate), this.#level + passed * this.#rate);
    this.#filledAt = now;
  }
}

function most(rate: number): number {
  return rate === Number.POSITIVE_INFINITY ? 0 : rate / 4;
}
