/** After every so many milliseconds without a read of the guest the relocation holds one request more. */
const STEP_MS = 50;

/** Who wants what of the repository. */
export interface RepositoryUse {
  /** Reads of the guest that are under way or wait for a slot. */
  readonly guestReads: number;
  /** The same with what is staged for the guest. */
  readonly guestRequests: number;
  /** Milliseconds since there last was a read of the guest: 0 while there is one, infinite where there never was. */
  readonly quietMs: number;
  /** Requests at once that fill the link; infinite where that is not known. */
  readonly filling: number;
}

/**
 * How many requests the relocation may hold at once, its lead included; at least 1, so that it never starves.
 *
 * Requests share the link: each of the relocation's makes a read of the guest slower, and those beyond what fills the link gain nothing. So
 * while the guest reads, the relocation has what is left of them, or as many as the guest, whichever is more. It comes back step by step
 * when the guest is quiet: a guest that waits for each of its reads has short pauses between them. Pure.
 */
export function relocationShare({ guestReads, guestRequests, quietMs, filling }: RepositoryUse): number {
  // A guest that is quiet only just now is about to read again.
  const left = Math.round(filling) - Math.max(1, guestReads);
  return Math.max(1, guestRequests, left) + Math.floor(quietMs / STEP_MS);
}
