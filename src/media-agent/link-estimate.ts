const WINDOW_MS = 1000;
/** Of fewer requests no pace is told. */
const WINDOW_REQUESTS = 16;
/** What is older says nothing of the link any more. */
const WINDOWS = 8;

interface Window {
  /** Requests that ended, per millisecond. */
  readonly pace: number;
  /** A quarter of them took no longer, milliseconds. */
  readonly quickMs: number;
}

/**
 * Tells from requests that ended how many at once fill the link to the repository. By Little's law that is the best pace there was times
 * what a request takes that nothing is in the way of; and one more, or the link would stand still where one ends and the next begins. Where
 * the delay is small that is two or three, and where it is large, or each request has a limit of its own, about as many as there are and one more.
 *
 * The quickest request of all would not do: it was of a short blob that found the processor idle.
 */
export class LinkEstimate {
  /** The last is the newest. */
  #windows: Window[] = [];
  #begun: number | undefined;
  /** What those of the window that is not over took, milliseconds. */
  #took: number[] = [];

  /** Takes note of a request that ended well. @param now monotonic milliseconds */
  ended(now: number, tookMs: number): void {
    this.#begun ??= now - tookMs;
    this.#took.push(tookMs);
    const passed = now - this.#begun;
    const count = this.#took.length;
    if (passed < WINDOW_MS || count < WINDOW_REQUESTS) return;
    const quickMs = this.#took.sort((a, b) => a - b)[count >> 2] ?? tookMs;
    this.#windows = [...this.#windows.slice(1 - WINDOWS), { pace: count / passed, quickMs }];
    this.#begun = now;
    this.#took = [];
  }

  /** Requests at once, at least 1; infinite until enough is known. */
  get filling(): number {
    if (this.#windows.length === 0) return Number.POSITIVE_INFINITY;
    const pace = Math.max(...this.#windows.map((window) => window.pace));
    return 1 + pace * Math.min(...this.#windows.map(({ quickMs }) => quickMs));
  }
}
