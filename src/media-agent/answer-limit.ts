import type { Clock } from "../base/clock.ts";

interface Pending {
  readonly key: string;
  readonly deadline: number;
  /** Begins it; undefined once it has begun. */
  begin: (() => void) | undefined;
  readonly giveUp: (error: Error) => void;
  readonly abort: AbortController;
}

/** Requests of one limit, the oldest first. */
interface Lane {
  readonly pending: Set<Pending>;
  isWatched: boolean;
}

export interface AnswerLimitOptions {
  readonly clock: Clock;
  /** Milliseconds that a request may take. */
  readonly limitMs: number;
  /** The same for one that was given up before. */
  readonly againMs: number;
  /** Requests that may be under way, those given up included: what they hold is bounded by it. */
  readonly atOnce: number;
  /** What a request is told that was not done in time. */
  readonly error: () => Error;
}

/** Requests that were given up and may come again. */
const REMEMBERED = 256;

/**
 * For clients that may not be kept waiting for as long as it takes: a request that is not done in time is answered with an error.
 * What had begun is aborted: it must not take effect when its client has long begun anew. What had to wait for its turn never begins.
 *
 * A request that comes again after it was given up is given up much sooner: the client's own timer went on where it stood.
 */
export class AnswerLimit {
  readonly #options: AnswerLimitOptions;
  readonly #first: Lane = { pending: new Set(), isWatched: false };
  readonly #again: Lane = { pending: new Set(), isWatched: false };
  readonly #givenUp = new Set<string>();
  #begun = 0;
  /** Those that have not begun. */
  #waiting = 0;

  constructor(options: AnswerLimitOptions) {
    this.#options = options;
  }

  /** Requests under way, those given up included. */
  get begun(): number {
    return this.#begun;
  }

  /**
   * Rejects with the error for what is late, or with that of `work`.
   *
   * @param key equal for a request that comes again
   */
  run<T>(key: string, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { clock, limitMs, againMs, atOnce } = this.#options;
    const comesAgain = this.#givenUp.has(key);
    const lane = comesAgain ? this.#again : this.#first;
    return new Promise<T>((resolve, reject) => {
      const pending: Pending = {
        key,
        deadline: clock.monotonic() + (comesAgain ? againMs : limitMs),
        begin: () => {
          pending.begin = undefined;
          this.#waiting--;
          this.#begun++;
          const ended = (): void => {
            lane.pending.delete(pending);
            this.#begun--;
            this.#beginNext();
          };
          work(pending.abort.signal).then(
            (value) => {
              ended();
              this.#givenUp.delete(key);
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
      lane.pending.add(pending);
      this.#waiting++;
      if (this.#begun < atOnce) pending.begin?.();
      if (!lane.isWatched) void this.#watch(lane);
    });
  }

  #beginNext(): void {
    for (const { pending } of [this.#again, this.#first]) {
      for (const { begin } of pending) {
        if (this.#waiting === 0 || this.#begun >= this.#options.atOnce) return;
        begin?.();
      }
    }
  }

  /** One sleep serves all of a lane: it wakes when the oldest is due, if that is still there. */
  async #watch(lane: Lane): Promise<void> {
    const { clock } = this.#options;
    lane.isWatched = true;
    for (;;) {
      const [oldest] = lane.pending;
      if (oldest === undefined) break;
      const left = oldest.deadline - clock.monotonic();
      if (left > 0) await clock.sleep(left);
      else this.#giveUp(lane, oldest);
    }
    lane.isWatched = false;
  }

  #giveUp(lane: Lane, late: Pending): void {
    lane.pending.delete(late);
    if (late.begin !== undefined) this.#waiting--;
    this.#givenUp.delete(late.key);
    this.#givenUp.add(late.key);
    const [longestAgo] = this.#givenUp;
    if (this.#givenUp.size > REMEMBERED && longestAgo !== undefined) this.#givenUp.delete(longestAgo);
    const error = this.#options.error();
    late.giveUp(error);
    late.abort.abort(error);
  }
}
