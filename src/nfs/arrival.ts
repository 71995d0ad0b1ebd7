/** What Node reads from a socket at most in one piece: less means that nothing more was there. */
const PIECE_BYTES = 65_536;
/** Pieces after a pause that Node may have read before it. */
const STALE_PIECES = 3;
/** More than any kernel keeps of one connection. */
const KERNEL_BYTES = 64 * 1024 * 1024;

/**
 * Since when what is read from a socket may have lain there: since now, or since the first pause after which not everything has
 * been read yet. Times are whatever the caller gives, never going back.
 */
export class Arrival {
  /** Everything that is unread came after this; undefined while there is no backlog. */
  #since: number | undefined;
  #piecesSincePause = 0;
  /** When so many bytes had been read, the backlog was younger than KERNEL_BYTES from here. */
  #mark = { bytes: 0, at: 0 };
  #bytes = 0;

  /** Nothing is read from now on. */
  paused(now: number): void {
    this.#piecesSincePause = 0;
    if (this.#since !== undefined) return;
    this.#since = now;
    this.#mark = { bytes: this.#bytes, at: now };
  }

  /** A piece was read: gives since when it may have waited. */
  read(bytes: number, now: number): number {
    const since = this.#since ?? now;
    this.#bytes += bytes;
    this.#piecesSincePause++;
    if (this.#since === undefined) return since;
    if (bytes < PIECE_BYTES && this.#piecesSincePause > STALE_PIECES) this.#since = undefined;
    else if (this.#bytes - this.#mark.bytes > KERNEL_BYTES) {
      // All that was unread at the mark has been read.
      this.#since = this.#mark.at;
      this.#mark = { bytes: this.#bytes, at: now };
    }
    return since;
  }
}
