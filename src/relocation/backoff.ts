import type { Clock } from "../base/clock.ts";

const FIRST_MS = 200;
const LONGEST_MS = 10_000;

/** Waits that grow: 0.2 s, doubled each time up to 10 s. */
export class Backoff {
  readonly #clock: Clock;
  #next = FIRST_MS;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  async wait(signal: AbortSignal): Promise<void> {
    const wait = this.#next;
    this.#next = Math.min(LONGEST_MS, this.#next * 2);
    await this.#clock.sleep(wait, signal);
  }

  /** After progress: the next wait is a short one again. */
  reset(): void {
    this.#next = FIRST_MS;
  }
}
