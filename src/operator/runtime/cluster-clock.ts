import { type Clock, systemClock } from "../../base/clock.ts";

/** By so much two clocks may differ before it is a clock that is wrong. An answer tells the time in whole seconds, and takes time itself. */
const APART_MS = 5000;

/**
 * Time as the API server has it. When things were made, and since when conditions hold, is told by that clock or compared with it, and
 * at the end of some spans what a guest wrote is discarded: this node's clock, which may be hours ahead, must not decide that. Until
 * the server has been heard, and wherever the two agree, it is this node's.
 */
export class ClusterClock implements Clock {
  readonly #own: Clock;
  readonly #onApart: (ms: number) => void;
  /** From monotonic milliseconds to those since the epoch. */
  #offset: number;

  /** @param onApart told by how much this clock was wrong, when it is set right */
  constructor(own: Clock = systemClock, onApart: (ms: number) => void = () => undefined) {
    this.#own = own;
    this.#onApart = onApart;
    this.#offset = own.now() - own.monotonic();
  }

  now(): number {
    return Math.floor(this.#own.monotonic() + this.#offset);
  }

  monotonic(): number {
    return this.#own.monotonic();
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return this.#own.sleep(ms, signal);
  }

  /** An answer of the API server has come. @param date its `Date`, RFC 9110 */
  heard(date: string | undefined): void {
    const time = Date.parse(date ?? "");
    if (Number.isNaN(time)) return;
    const apart = this.now() - time;
    if (Math.abs(apart) <= APART_MS) return;
    this.#offset = time - this.#own.monotonic();
    this.#onApart(apart);
  }
}
