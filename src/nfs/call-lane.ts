const SMALL_BYTES = 128 * 1024;
const LARGE_SHARE = 0.75;

/** Bytes that the calls of all connections may hold together; those who wait are woken in the order in which they came. */
export class ByteBudget {
  readonly #limit: number;
  readonly #waiting = new Set<() => void>();
  #used = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get used(): number {
    return this.#used;
  }

  /** A quarter is kept for small calls: large ones that wait must not hold up what is at hand. */
  has(bytes: number): boolean {
    return this.#used + bytes <= (bytes > SMALL_BYTES ? this.#limit * LARGE_SHARE : this.#limit);
  }

  take(bytes: number): void {
    this.#used += bytes;
  }

  give(bytes: number): void {
    this.#used -= bytes;
    if (this.#waiting.size === 0) return;
    // Each takes what it can and waits again where that was not all.
    const woken = [...this.#waiting];
    this.#waiting.clear();
    for (const wake of woken) wake();
  }

  /** Calls `wake` once when bytes come free. */
  wait(wake: () => void): void {
    this.#waiting.add(wake);
  }

  forget(wake: () => void): void {
    this.#waiting.delete(wake);
  }
}

export interface LaneLimits {
  /** Carried out at once for one connection. */
  readonly calls: number;
  /** What they may hold, each connection for itself. */
  readonly bytes: number;
}

/**
 * One connection's calls of one kind: bounded in number and bytes, and together with all others' by a budget. Whatever others
 * hold, one call may always go: nobody waits for a client that does not take its answers.
 */
export class CallLane {
  readonly #limits: LaneLimits;
  readonly #budget: ByteBudget;
  readonly #wake: () => void;
  #calls = 0;
  #bytes = 0;

  /** @param wake called when a call that was not let in may try again because others gave bytes back */
  constructor(limits: LaneLimits, budget: ByteBudget, wake: () => void) {
    this.#limits = limits;
    this.#budget = budget;
    this.#wake = wake;
  }

  /** Whether a call that holds so many bytes may begin; then it counts until {@link end} and {@link give}. */
  begin(bytes: number): boolean {
    const { calls, bytes: most } = this.#limits;
    if (this.#calls >= calls) return false;
    if (this.#bytes > 0 || this.#calls > 0) {
      if (this.#bytes + bytes > most) return false;
      if (!this.#budget.has(bytes)) {
        this.#budget.wait(this.#wake);
        return false;
      }
    }
    this.#calls++;
    this.#bytes += bytes;
    this.#budget.take(bytes);
    return true;
  }

  /** A call was carried out; its bytes may still be held. */
  end(): void {
    this.#calls--;
  }

  give(bytes: number): void {
    this.#bytes -= bytes;
    this.#budget.give(bytes);
  }

  /** The connection is gone, and with it its wish for bytes. */
  close(): void {
    this.#budget.forget(this.#wake);
  }
}
