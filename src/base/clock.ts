import { setTimeout as delay } from "node:timers/promises";

/** Time as a dependency, so that decisions can be tested without waiting. */
export interface Clock {
  /** Wall clock, milliseconds since the epoch. May jump; for timestamps that people read only. */
  now(): number;
  /** Milliseconds from an arbitrary origin that never go back; for durations and deadlines. */
  monotonic(): number;
  /** Resolves after `ms` milliseconds; rejects with the signal's reason when aborted first. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  async sleep(ms, signal) {
    try {
      await delay(ms, undefined, signal === undefined ? {} : { signal });
    } catch (error) {
      // Node rejects with an error of its own, of which the reason is the cause.
      throw signal?.aborted === true ? signal.reason : error;
    }
  },
};
