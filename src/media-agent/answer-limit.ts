import type { Clock } from "../base/clock.ts";
import { AgentError } from "./errors.ts";

interface Pending {
  readonly deadline: number;
  /** Begins it; undefined once it has begun. */
  begin: (() => void) | undefined;
  readonly giveUp: (error: AgentError) => void;
}

export interface AnswerLimitOptions {
  readonly clock: Clock;
  /** Milliseconds. */
  readonly limitMs: number;
  /** Requests that may be under way, those given up included: what they hold is bounded by it. */
  readonly atOnce: number;
}

/**
 * For clients that may not be kept waiting for as long as it takes: a request that is not answered in time is answered with an error.
 * What had begun goes on, and may take effect later, before whatever touches the same place and came after it; what had to wait
 * for its turn never begins.
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

  /** @throws AgentError NOT_IN_TIME, or what `work` rejects with */
  run<T>(work: () => Promise<T>): Promise<T> {
    const { clock, limitMs, atOnce } = this.#options;
    return new Promise<T>((resolve, reject) => {
      const pending: Pending = {
        deadline: clock.monotonic() + limitMs,
        begin: () => {
          pending.begin = undefined;
          this.#begun++;
          work()
            .finally(() => {
              this.#pending.delete(pending);
              this.#begun--;
              this.#beginNext();
            })
            .then(resolve, reject);
        },
        giveUp: reject,
      };
      this.#pending.add(pending);
      if (this.#begun < atOnce) pending.begin?.();
      if (!this.#isWatching) void this.#watch();
    });
  }

  #beginNext(): void {
    for (const { begin } of this.#pending) {
      if (this.#begun >= this.#options.atOnce) return;
      begin?.();
    }
  }

  /** One sleep serves all: it wakes when the oldest is due, if that is still there. */
  async #watch(): Promise<void> {
    const { clock, limitMs } = this.#options;
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
      oldest.giveUp(
        new AgentError(
          "NOT_IN_TIME",
          `a request was not answered within ${limitMs / 1000} s: its guest is paused meanwhile`,
          {
            hint: "See why the disk waits: the repository may be away, or the overlay full. The guest goes on afterwards.",
          },
        ),
      );
    }
    this.#isWatching = false;
  }
}
