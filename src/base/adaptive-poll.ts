/** How long it is looked for the next request at the most, in milliseconds: longer than two processors take to wake one another. */
const LONGEST_MS = 0.2;

interface Turns {
  /** Milliseconds that never go back. */
  readonly now: () => number;
  /** Calls back once what has arrived meanwhile was handed out. */
  readonly next: (turn: () => void) => void;
}

const eventLoop: Turns = { now: () => performance.now(), next: (turn) => void setImmediate(turn) };

/**
 * Keeps the event loop awake for a moment where a client asks one thing after the other. A process that sleeps until the next
 * request is woken by another processor, which takes longer than answering from the cache. So after an answer it is looked for the
 * next request for as long as a fifth of a millisecond, if the one before came as soon: the rule by which QEMU's threads poll. Clients
 * that take their time, and those that have many requests under way, cost nothing.
 *
 * Everything else goes on meanwhile: each turn of the event loop handles what there is.
 */
export class AdaptivePoll {
  readonly #turns: Turns;
  /** When the last answer left, while no request has come since. */
  #answered: number | undefined;
  #polls = false;
  #isWorthIt = false;

  constructor(turns: Turns = eventLoop) {
    this.#turns = turns;
  }

  /** A request came. */
  arrived(): void {
    if (this.#answered === undefined) return;
    this.#isWorthIt = this.#turns.now() - this.#answered <= LONGEST_MS;
    this.#answered = undefined;
  }

  /** An answer leaves, and no other is being made. */
  answered(): void {
    this.#answered = this.#turns.now();
    if (!this.#isWorthIt || this.#polls) return;
    this.#polls = true;
    this.#turns.next(this.#turn);
  }

  readonly #turn = (): void => {
    if (this.#answered === undefined) {
      // A request is being answered; what comes after it is told then.
      this.#polls = false;
      return;
    }
    if (this.#turns.now() - this.#answered <= LONGEST_MS) {
      this.#turns.next(this.#turn);
      return;
    }
    this.#polls = false;
    this.#isWorthIt = false;
  };
}
