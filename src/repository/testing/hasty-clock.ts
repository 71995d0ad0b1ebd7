import type { Clock } from "../../base/clock.ts";

/** Time that passes by itself: pauses are counted, not waited for. */
export class HastyClock implements Clock {
  readonly pauses: number[] = [];

  now(): number {
    return Date.now();
  }

  monotonic(): number {
    return performance.now();
  }

  async sleep(ms: number): Promise<void> {
    this.pauses.push(ms);
  }
}
