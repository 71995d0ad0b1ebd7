/** What is left is small when a pass takes no longer: then a cutover's last pass will not either. Milliseconds. */
const SMALL_PASS_MS = 3_000;
/** Whatever the time, that much is small. Bytes. */
const SMALL_PASS_BYTES = 16 * 1024 * 1024;
const SHORTEST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 10_000;
/** So much dirty memory ends a wait early. Bytes. */
const DIRTY_LIMIT = 64 * 1024 * 1024;

/** Decides whether relocation has converged, and when the next pass over the dirty pages begins. */
export class Pacing {
  #isConverged = false;
  #wait = SHORTEST_WAIT_MS;

  get isConverged(): boolean {
    return this.#isConverged;
  }

  /** @param bytes that the pass copied. @param ms that it took, the sync of the target included */
  passed(bytes: number, ms: number): void {
    const isSmall = ms <= SMALL_PASS_MS || bytes <= SMALL_PASS_BYTES;
    // Twice as much before it counts as lost again, so that it does not flap.
    this.#isConverged = isSmall || (this.#isConverged && ms <= 2 * SMALL_PASS_MS);
    this.#wait = isSmall ? Math.min(LONGEST_WAIT_MS, Math.max(SHORTEST_WAIT_MS, this.#wait * 1.5)) : 0;
  }

  /** @param ms since the last pass ended */
  isDue(status: { readonly sealed: boolean; readonly dirtyBytes: number }, ms: number): boolean {
    if (status.sealed || status.dirtyBytes >= DIRTY_LIMIT) return true;
    return status.dirtyBytes > 0 && ms >= this.#wait;
  }
}
