interface Waiter {
  /** How far its disk has come, 0 to 1; asked when a slot is free. */
  readonly fraction: () => number;
  readonly grant: () => void;
}

/**
 * A fixed number of slots for requests under way, shared by all disks of a relocation. A free slot goes to the disk that
 * has come least far, so that all arrive together; among equals, to who waited longest.
 */
export class FairSlots {
  #free: number;
  #waiting: Waiter[] = [];

  /** @param slots how many requests may be under way at once, at least 1 */
  constructor(slots: number) {
    this.#free = slots;
  }

  /** Waits for a slot; rejects with the signal's reason. Every resolved call is followed by one {@link release}. */
  acquire(fraction: () => number, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return Promise.reject(signal.reason);
    if (this.#free > 0) {
      this.#free--;
      return Promise.resolve();
    }
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        this.#waiting = this.#waiting.filter((other) => other !== waiter);
        reject(signal.reason);
      };
      const waiter: Waiter = {
        fraction,
        grant: () => {
          signal.removeEventListener("abort", onAbort);
          resolve();
        },
      };
      signal.addEventListener("abort", onAbort, { once: true });
      this.#waiting.push(waiter);
    });
  }

  release(): void {
    let least: Waiter | undefined;
    let leastFraction = Number.POSITIVE_INFINITY;
    for (const waiter of this.#waiting) {
      const fraction = waiter.fraction();
      if (fraction < leastFraction) {
        least = waiter;
        leastFraction = fraction;
      }
    }
    if (least === undefined) {
      this.#free++;
      return;
    }
    this.#waiting = this.#waiting.filter((other) => other !== least);
    least.grant();
  }
}
