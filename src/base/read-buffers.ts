const SMALLEST = 4096;
const LARGEST = 1024 * 1024;
/** What is kept for later, all sizes together. */
const KEPT_BYTES = 16 * 1024 * 1024;
/** What may be lent to all connections together, and to one of them. */
const LENT_BYTES = 96 * 1024 * 1024;
const LENT_TO_ONE_BYTES = 16 * 1024 * 1024;

interface FreeBuffers {
  readonly buffers: Buffer[];
  /** Counts up with every use of the size. */
  used: number;
}

/**
 * Buffers for data on its way to a socket, used again: making one for each read costs more than the read. Sizes are powers of two
 * from 4 KiB to 1 MiB; whatever is larger is made anew and forgotten.
 */
export class ReadBuffers {
  readonly #free = new Map<number, FreeBuffers>();
  #kept = 0;
  #takes = 0;
  #lent = 0;

  /**
   * Whether somebody who was lent `own` bytes may begin another read. Who has nothing always may: a connection that takes no
   * answers stops itself, and no other.
   */
  mayLend(own: number): boolean {
    return own === 0 || (own < LENT_TO_ONE_BYTES && this.#lent < LENT_BYTES);
  }

  /** A buffer of at least `length` bytes, with whatever it holds. */
  take(length: number): Buffer {
    const size = bufferBytes(length);
    this.#lent += size;
    const free = this.#free.get(size);
    if (free === undefined) return Buffer.allocUnsafeSlow(size);
    free.used = ++this.#takes;
    const found = free.buffers.pop();
    if (found === undefined) return Buffer.allocUnsafeSlow(size);
    this.#kept -= size;
    return found;
  }

  /** Gives back a whole buffer that {@link take} gave, once nobody reads or writes it any more. */
  give(buffer: Buffer): void {
    this.forget(buffer);
    const size = buffer.length;
    if (size > LARGEST) return;
    let free = this.#free.get(size);
    if (free === undefined) {
      free = { buffers: [], used: ++this.#takes };
      this.#free.set(size, free);
    }
    if (this.#kept + size > KEPT_BYTES && !this.#makeRoom(size, free)) return;
    free.buffers.push(buffer);
    this.#kept += size;
  }

  /** As {@link give}, for one that somebody may still read or write: it is not lent again. */
  forget(buffer: Buffer): void {
    this.#lent -= buffer.length;
  }

  /** Lets go of buffers of sizes that nobody has asked for as long: whoever came first must not keep all that may be kept. */
  #makeRoom(bytes: number, own: FreeBuffers): boolean {
    while (this.#kept + bytes > KEPT_BYTES) {
      let oldest: FreeBuffers | undefined;
      for (const free of this.#free.values()) {
        if (free.buffers.length > 0 && free.used < (oldest ?? own).used) oldest = free;
      }
      const dropped = oldest?.buffers.pop();
      if (dropped === undefined) return false;
      this.#kept -= dropped.length;
    }
    return true;
  }
}

/** How large a buffer {@link ReadBuffers} lends for so many bytes. */
export function bufferBytes(length: number): number {
  let size = SMALLEST;
  while (size < length && size < LARGEST) size *= 2;
  return Math.max(size, length);
}
