import type { Clock } from "../../base/clock.ts";
import { deferred } from "../../base/deferred.ts";
import { withEither } from "../../base/either-signal.ts";
import { isOutOfSpace } from "./files.ts";

const RETRY_MS = 1000;

/** What finds the claim full waits, for as long as it takes, and is tried again. */
export class SpaceWait {
  readonly #clock: Clock;
  readonly #signal: AbortSignal;
  #ending = new AbortController();
  #waiting = 0;

  /** @param signal ends all waiting: they reject with its reason */
  constructor(clock: Clock, signal: AbortSignal) {
    this.#clock = clock;
    this.#signal = signal;
  }

  /** Whether anybody waits. */
  get full(): boolean {
    return this.#waiting > 0;
  }

  /**
   * Those who wait, for something else too, give up with this reason, and whoever comes to wait until {@link resume}: nobody can come
   * after this and wait.
   */
  end(reason: Error): void {
    this.#ending.abort(reason);
  }

  /** Waiting is possible again. */
  resume(): void {
    if (this.#ending.signal.aborted) this.#ending = new AbortController();
  }

  /** Rejects with any other error of `body`, or with the signal's reason. */
  async retry<T>(body: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    let isWaiting = false;
    try {
      for (;;) {
        try {
          return await body();
        } catch (error) {
          if (!isOutOfSpace(error)) throw error;
        }
        // Counted until it succeeds: between two attempts it still waits.
        if (!isWaiting) this.#waiting++;
        isWaiting = true;
        const signals = [this.#signal, this.#ending.signal, ...(signal === undefined ? [] : [signal])];
        await withEither(signals, (either) => this.#clock.sleep(RETRY_MS, either));
      }
    } finally {
      if (isWaiting) this.#waiting--;
    }
  }

  /** Waits for something else than space; rejects with the same reasons as {@link retry}. What comes of it then, nobody uses. */
  orGiveUp<T>(body: () => Promise<T>): Promise<T> {
    return withEither([this.#signal, this.#ending.signal], (either) => {
      either.throwIfAborted();
      const ended = deferred<never>();
      either.addEventListener("abort", () => ended.reject(either.reason));
      return Promise.race([body(), ended.promise]);
    });
  }
}
