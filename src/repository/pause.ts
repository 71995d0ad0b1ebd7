import { setImmediate } from "node:timers/promises";

/** Steps between two looks at the clock. */
const STEPS = 512;
const SLICE_MS = 3;

/** Cuts a long loop into slices of a few milliseconds, so that the event loop goes on serving meanwhile. */
export class Pause {
  readonly #stepsPerLook: number;
  #steps = 0;
  #since = performance.now();

  /** @param stepsPerLook steps that take well below a millisecond together */
  constructor(stepsPerLook = STEPS) {
    this.#stepsPerLook = stepsPerLook;
  }

  /** Counts a step; true when the slice is used up. */
  due(): boolean {
    return ++this.#steps % this.#stepsPerLook === 0 && performance.now() - this.#since >= SLICE_MS;
  }

  /** Lets everything else that is waiting go first. */
  async take(): Promise<void> {
    await setImmediate();
    this.#since = performance.now();
  }
}
