import type { Clock } from "../../base/clock.ts";
import { VmRestoreError } from "../../base/errors.ts";

/** The Lease could not be renewed in time, or is another's: another may lead now. The process has to end. */
export class LeadershipLostError extends VmRestoreError {
  constructor() {
    super("LEADERSHIP_LOST", "the Lease could not be renewed in time, or is another's", {
      hint: "see whether the API server answers; the operator starts again by itself",
    });
  }
}

/**
 * A term of leading. It runs out by itself: whoever holds one asks {@link check} before everything that others see, so that a replica
 * that was stopped, cut off or slow does nothing any more when another may have begun.
 */
export class Leadership {
  readonly #clock: Clock;
  readonly #holdMs: number;
  readonly #lost = new AbortController();
  #renewed: { monotonic: number; wall: number } = { monotonic: Number.NEGATIVE_INFINITY, wall: 0 };

  /** @param holdMs how long one renewal lets lead; shorter than what others wait for */
  constructor(clock: Clock, holdMs: number) {
    this.#clock = clock;
    this.#holdMs = holdMs;
  }

  /** Aborted once leadership is lost: what is under way is to be cut off then. */
  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  /**
   * Milliseconds until leadership ends unless it is renewed. The wall clock may only shorten it: in a virtual machine that was frozen
   * the monotonic clock stood still with it, and only the wall clock is set right afterwards.
   */
  get timeLeft(): number {
    if (this.#lost.signal.aborted) return 0;
    const { monotonic, wall } = this.#renewed;
    const passed = Math.max(this.#clock.monotonic() - monotonic, this.#clock.now() - wall);
    return Math.max(0, this.#holdMs - passed);
  }

  /** A renewal that was *sent* at these times was carried out. What was lost stays lost. */
  renewed(at: { readonly monotonic: number; readonly wall: number }): void {
    this.#renewed = at;
  }

  lose(): void {
    this.#lost.abort(new LeadershipLostError());
  }

  /** Throws a {@link LeadershipLostError} unless this replica leads at this moment. */
  check(): void {
    if (this.timeLeft > 0) return;
    this.lose();
    throw new LeadershipLostError();
  }
}
