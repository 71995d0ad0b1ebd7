import { setImmediate } from "node:timers/promises";

/** Steps between two looks at the clock. */
const STEPS = 512;
const SLICE_MS = 4;

/** Cuts a long loop into slices of a few milliseconds, so that the event loop goes on serving meanwhile. */
export class Pause {
  #steps = 0;
  #since = performance.now();

  /** Counts a step; true when the slice is used up. */
  due(): boolean {
    return ++this.#steps % STEPS === 0 && performance.now() - this.#since >= SLICE_MS;
  }

  /** Lets everything else that is waiting go first. */
  async take(): Promise<void> {
    await setImmediate();
    this.#since = performance.now();
  }
}
