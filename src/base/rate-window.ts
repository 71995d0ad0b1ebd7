interface Sample {
  readonly at: number;
  readonly bytes: number;
}

/** Bytes per second over a window that ends now. */
export class RateWindow {
  readonly #windowMs: number;
  #samples: Sample[] = [];
  readonly #startedAt: number;

  /**
   * @param windowMs length of the window in milliseconds
   * @param now where counting begins, on the clock that all other times are on
   */
  constructor(windowMs: number, now: number) {
    this.#windowMs = windowMs;
    this.#startedAt = now;
  }

  add(bytes: number, now: number): void {
    this.#samples.push({ at: now, bytes });
    this.#forget(now);
  }

  rate(now: number): number {
    this.#forget(now);
    const bytes = this.#samples.reduce((sum, sample) => sum + sample.bytes, 0);
    const span = Math.min(this.#windowMs, now - this.#startedAt);
    return span <= 0 ? 0 : (bytes * 1000) / span;
  }

  #forget(now: number): void {
    const first = this.#samples.findIndex((sample) => sample.at > now - this.#windowMs);
    this.#samples = first < 0 ? [] : this.#samples.slice(first);
  }
}
