/** Bytes that are read in one turn of the event loop, beside the last read's: well below a millisecond's worth. */
const TURN_BYTES = 512 * 1024;

/** How much may be read at once, on the event loop, before others get their turn. */
export class TurnBudget {
  #bytes = 0;
  #isWatched = false;
  readonly #waiting: { readonly bytes: number; readonly grant: () => void }[] = [];

  /** Whether so many bytes may be read in this turn, which has not done much yet. */
  take(bytes: number): boolean {
    if (this.#bytes > TURN_BYTES) return false;
    this.#bytes += bytes;
    // A turn that does little need not be noticed: it makes the next one's share smaller at most.
    if (this.#bytes > TURN_BYTES / 2) this.#watch();
    return true;
  }

  /** Resolves in a turn that may read so many bytes: first come, first served. */
  wait(bytes: number): Promise<void> {
    this.#watch();
    return new Promise((resolve) => this.#waiting.push({ bytes, grant: resolve }));
  }

  #watch(): void {
    if (this.#isWatched) return;
    this.#isWatched = true;
    setImmediate(this.#turned);
  }

  readonly #turned = (): void => {
    this.#bytes = 0;
    this.#isWatched = false;
    while (this.#bytes <= TURN_BYTES) {
      const next = this.#waiting.shift();
      if (next === undefined) return;
      this.#bytes += next.bytes;
      this.#watch();
      next.grant();
    }
  };
}
