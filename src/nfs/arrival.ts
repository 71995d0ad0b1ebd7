import { readFileSync } from "node:fs";

/** What Node reads from a socket at most in one piece: less means that nothing more was there. */
const PIECE_BYTES = 65_536;
/** Pieces after a pause that Node may have read before it. */
const STALE_PIECES = 3;
/** Of one connection, where the kernel does not say: more than any keeps. */
const MOST_KERNEL_BYTES = 64 * 1024 * 1024;

/** Bytes of one connection that the kernel keeps at most until they are read. */
export function kernelBytes(): number {
  try {
    const [, , most] = readFileSync("/proc/sys/net/ipv4/tcp_rmem", "utf8").trim().split(/\s+/).map(Number);
    return most !== undefined && most >= PIECE_BYTES ? most : MOST_KERNEL_BYTES;
  } catch {
    return MOST_KERNEL_BYTES;
  }
}

/**
 * Since when what is read from a socket may have lain there: since now, or since the first pause after which not everything has
 * been read yet. Times are whatever the caller gives, never going back.
 */
export class Arrival {
  /** Everything that is unread came after this; undefined while there is no backlog. */
  #since: number | undefined;
  #piecesSincePause = 0;
  /** All that was unread at the mark has been read when as many bytes more have come as the kernel keeps. */
  #mark = { bytes: 0, at: 0 };
  #bytes = 0;
  readonly #kernelBytes: number;

  /** @param kernel {@link kernelBytes} */
  constructor(kernel: number) {
    // Node keeps two pieces of its own.
    this.#kernelBytes = kernel + 2 * PIECE_BYTES;
  }

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
    else if (this.#bytes - this.#mark.bytes > this.#kernelBytes) {
      this.#since = this.#mark.at;
      this.#mark = { bytes: this.#bytes, at: now };
    }
    return since;
  }
}
