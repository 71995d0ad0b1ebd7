import type { Clock } from "../base/clock.ts";

interface Pending {
  readonly deadline: number;
  /** Begins it; undefined once it has begun. */
  begin: (() => void) | undefined;
  readonly giveUp: (error: Error) => void;
  readonly abort: AbortController;
}

export interface AnswerLimitOptions {
  readonly clock: Clock;
  /** Milliseconds. */
  readonly limitMs: number;
  /** Requests that may be under way, those given up included: what they hold is bounded by it. */
  readonly atOnce: number;
  /** What a request is told that was not answered in time. */
  readonly error: () => Error;
}

/**
 * For clients that may not be kept waiting for as long as it takes: a request that is not done in time is answered with an error.
 * What had begun is aborted: it must not take effect when its client has long begun anew. What had to wait for its turn never begins.
 */
export class AnswerLimit {
  readonly #options: AnswerLimitOptions;
  /** Oldest first: all have the same limit. */
  readonly #pending = new Set<Pending>();
  #begun = 0;
  #isWatching = false;

  constructor(options: AnswerLimitOptions) {
    this.#options = options;
  }

  /** Requests under way, those given up included. */
  get begun(): number {
    return this.#begun;
  }

  /** Rejects with the error for what is late, or with that of `work`. */
  run<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { clock, limitMs, atOnce } = this.#options;
    return new Promise<T>((resolve, reject) => {
      const pending: Pending = {
        deadline: clock.monotonic() + limitMs,
        begin: () => {
          pending.begin = undefined;
          this.#begun++;
          const ended = (): void => {
            this.#pending.delete(pending);
            this.#begun--;
            this.#beginNext();
          };
          work(pending.abort.signal).then(
            (value) => {
              ended();
              resolve(value);
            },
            (error: unknown) => {
              ended();
              reject(error);
            },
          );
        },
        giveUp: reject,
        abort: new AbortController(),
      };
      this.#pending.add(pending);
      if (this.#begun < atOnce) pending.begin?.();
      if (!this.#isWatching) void this.#watch();
    });
  }

  #beginNext(): void {
    // As many have begun as there are: nobody waits for a turn.
    if (this.#pending.size <= this.#begun) return;
    for (const { begin } of this.#pending) {
      if (this.#begun >= this.#options.atOnce) return;
      begin?.();
    }
  }

  /** One sleep serves all: it wakes when the oldest is due, if that is still there. */
  async #watch(): Promise<void> {
    const { clock, error } = this.#options;
    this.#isWatching = true;
    for (;;) {
      const [oldest] = this.#pending;
      if (oldest === undefined) break;
      const left = oldest.deadline - clock.monotonic();
      if (left > 0) {
        await clock.sleep(left);
        continue;
      }
      this.#pending.delete(oldest);
      const late = error();
      oldest.giveUp(late);
      oldest.abort.abort(late);
    }
    this.#isWatching = false;
  }
}
