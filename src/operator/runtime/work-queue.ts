import type { Clock } from "../../base/clock.ts";
import { type Deferred, deferred } from "../../base/deferred.ts";

export interface BackoffOptions {
  /** Milliseconds before the first repetition; doubles with every one. */
  readonly baseMs: number;
  readonly maxMs: number;
}

/**
 * Keys to be worked on. A key is handed to one worker at a time; one that is added meanwhile is handed out once more
 * afterwards. However often a key is added before a worker takes it, it is worked on once.
 */
export class WorkQueue {
  readonly #clock: Clock;
  readonly #backoff: BackoffOptions;
  readonly #ready = new Set<string>();
  readonly #working = new Set<string>();
  readonly #again = new Set<string>();
  readonly #failures = new Map<string, number>();
  /** When a key is due: of several delays for one key the shortest counts. */
  readonly #due = new Map<string, { at: number; cancel: AbortController }>();
  #takers: Deferred<string | undefined>[] = [];
  #closed = false;

  constructor(clock: Clock, backoff: BackoffOptions = { baseMs: 200, maxMs: 60_000 }) {
    this.#clock = clock;
    this.#backoff = backoff;
  }

  /** Keys that wait for a worker. */
  get length(): number {
    return this.#ready.size;
  }

  add(key: string): void {
    if (this.#closed) return;
    this.#cancelDelay(key);
    if (this.#working.has(key)) {
      this.#again.add(key);
      return;
    }
    const taker = this.#ready.has(key) ? undefined : this.#takers.shift();
    if (taker === undefined) {
      this.#ready.add(key);
      return;
    }
    this.#working.add(key);
    taker.resolve(key);
  }

  addAfter(key: string, ms: number): void {
    if (this.#closed) return;
    if (ms <= 0) {
      this.add(key);
      return;
    }
    const at = this.#clock.monotonic() + ms;
    const earlier = this.#due.get(key);
    if (earlier !== undefined && earlier.at <= at) return;
    this.#cancelDelay(key);
    const cancel = new AbortController();
    this.#due.set(key, { at, cancel });
    this.#clock.sleep(ms, cancel.signal).then(
      () => this.add(key),
      () => undefined,
    );
  }

  /**
   * Adds the key after a delay that doubles with each call until {@link forget}.
   *
   * @param leastMs what a busy server asked for
   */
  addRateLimited(key: string, leastMs = 0): void {
    if (this.#closed) return;
    const failures = this.#failures.get(key) ?? 0;
    this.#failures.set(key, failures + 1);
    const { baseMs, maxMs } = this.#backoff;
    this.addAfter(key, Math.min(maxMs, Math.max(leastMs, baseMs * 2 ** Math.min(failures, 30))));
  }

  /** The key was worked on without an error. */
  forget(key: string): void {
    this.#failures.delete(key);
  }

  /** The next key, when there is one; undefined once the queue is closed. {@link done} follows each. */
  async take(): Promise<string | undefined> {
    if (this.#closed) return undefined;
    for (const key of this.#ready) {
      this.#ready.delete(key);
      this.#working.add(key);
      // What was asked for before is done now, whenever it was wanted.
      this.#cancelDelay(key);
      return key;
    }
    const taker = deferred<string | undefined>();
    this.#takers.push(taker);
    return taker.promise;
  }

  done(key: string): void {
    this.#working.delete(key);
    if (this.#again.delete(key)) this.add(key);
  }

  /** Nothing is handed out any more. */
  close(): void {
    this.#closed = true;
    for (const key of [...this.#due.keys()]) this.#cancelDelay(key);
    for (const taker of this.#takers) taker.resolve(undefined);
    this.#takers = [];
  }

  #cancelDelay(key: string): void {
    this.#due.get(key)?.cancel.abort();
    this.#due.delete(key);
  }
}
