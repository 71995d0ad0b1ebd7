import { BitChunks, CHUNK_BITS, CHUNK_BYTES, ONES, ZEROS } from "./bit-chunks.ts";
import type { Extent } from "./block-device.ts";

/**
 * A fixed number of bits, with how many of them are set. Memory is taken where bits differ from their neighbours: 64 bytes for each 512
 * bits that are not all the same, beside 4 bytes for every 512.
 */
export class Bitmap {
  readonly length: number;
  #chunks: BitChunks;
  #count = 0;
  #view: BitmapView | undefined;

  /** @param length at most 2^32 */
  constructor(length: number) {
    this.length = length;
    this.#chunks = new BitChunks(Math.ceil(length / CHUNK_BITS));
  }

  /** How many bits are set. */
  get count(): number {
    return this.#count;
  }

  /** Bytes of memory that it takes, not counting what a view keeps. */
  get heldBytes(): number {
    return this.#chunks.heldBytes;
  }

  has(index: number): boolean {
    const chunks = this.#chunks;
    const slot = chunks.slots[index >>> 9] ?? ZEROS;
    if (slot <= ONES) return slot === ONES;
    return ((chunks.bytesOf(slot)[chunks.placeOf(slot) + ((index >>> 3) & 63)] as number) & (1 << (index & 7))) !== 0;
  }

  /** Gives back whether the bit changed. */
  add(index: number): boolean {
    if (this.has(index)) return false;
    this.#flip(index);
    this.#count++;
    return true;
  }

  /** Gives back whether the bit changed. */
  delete(index: number): boolean {
    if (!this.has(index)) return false;
    this.#flip(index);
    this.#count--;
    return true;
  }

  /** Makes the bits of `[from, to)` the same. */
  set(value: boolean, from: number, to: number): void {
    for (let index = from; index < to; ) {
      const isWhole = (index & (CHUNK_BITS - 1)) === 0 && index + CHUNK_BITS <= to;
      if (isWhole) {
        const chunk = index >>> 9;
        if (this.#chunks.slots[chunk] !== (value ? ONES : ZEROS)) {
          this.#view?.keep(chunk);
          this.#count += (value ? CHUNK_BITS : 0) - this.#chunks.count(chunk);
          this.#chunks.fill(chunk, value);
        }
        index += CHUNK_BITS;
      } else {
        if (value) this.add(index);
        else this.delete(index);
        index++;
      }
    }
  }

  /** Gives the memory back, too. */
  clear(): void {
    if (this.#count === 0) return;
    // A view of what was there goes on with the old memory, which nobody changes any more.
    this.#view = undefined;
    this.#chunks = new BitChunks(this.#chunks.slots.length);
    this.#count = 0;
  }

  /** The first index in `[from, to)` whose bit is `value`, or `to`. */
  next(value: boolean, from: number, to: number): number {
    const chunks = this.#chunks;
    const uniform = value ? ZEROS : ONES;
    const uniformByte = value ? 0 : 0xff;
    let index = from;
    while (index < to) {
      const slot = chunks.slots[index >>> 9] ?? ZEROS;
      if (slot === uniform) index += CHUNK_BITS - (index & (CHUNK_BITS - 1));
      else if (slot <= ONES) return index;
      else {
        const bytes = chunks.bytesOf(slot);
        const place = chunks.placeOf(slot);
        const end = Math.min(to, index + CHUNK_BITS - (index & (CHUNK_BITS - 1)));
        while (index < end) {
          const byte = bytes[place + ((index >>> 3) & 63)] as number;
          if ((index & 7) === 0 && byte === uniformByte) index += 8;
          else if (((byte & (1 << (index & 7))) !== 0) === value) return index;
          else index++;
        }
      }
    }
    return to;
  }

  /** Runs of set bits within `[from, to)`. */
  *runs(from = 0, to = this.length): Generator<Extent> {
    let start = this.next(true, from, to);
    while (start < to) {
      const end = this.next(false, start, to);
      yield { offset: start, length: end - start };
      start = this.next(true, end, to);
    }
  }

  /** The bits as they are now, to be read while they change. One at a time; whoever took it releases it. */
  view(): BitmapView {
    if (this.#view !== undefined) throw new RangeError("there is a view already");
    const view = new BitmapView(this.#chunks, () => {
      if (this.#view === view) this.#view = undefined;
    });
    this.#view = view;
    return view;
  }

  /**
   * Takes over bits as {@link BitmapView.read} gives them, where none have been set yet.
   *
   * @param at a multiple of 64, and so is the number of bytes but for the last ones. Bits beyond the length are left out
   */
  load(bytes: Uint8Array, at: number): void {
    for (let done = 0; done < bytes.length; done += CHUNK_BYTES) {
      const chunk = (at + done) / CHUNK_BYTES;
      const piece = bytes.subarray(done, done + CHUNK_BYTES);
      const beyond = (chunk + 1) * CHUNK_BITS - this.length;
      if (beyond > 0) {
        const first = chunk * CHUNK_BITS;
        for (let index = first; index < this.length; index++) {
          if (((piece[(index - first) >>> 3] ?? 0) & (1 << (index & 7))) !== 0) this.add(index);
        }
      } else this.#count += this.#chunks.load(chunk, piece);
    }
  }

  #flip(index: number): void {
    this.#view?.keep(index >>> 9);
    this.#chunks.flip(index >>> 9, (index >>> 3) & 63, 1 << (index & 7));
  }
}

/** What the bits of a {@link Bitmap} were at one moment. It keeps what has changed since and was not read yet, and no more. */
export class BitmapView {
  readonly #chunks: BitChunks;
  readonly #onRelease: () => void;
  readonly #kept = new Map<number, Uint8Array>();
  /** Chunks below it were read. */
  #passed = 0;

  constructor(chunks: BitChunks, onRelease: () => void) {
    this.#chunks = chunks;
    this.#onRelease = onRelease;
  }

  /** A chunk is about to change. */
  keep(chunk: number): void {
    if (chunk < this.#passed || this.#kept.has(chunk)) return;
    const bytes = new Uint8Array(CHUNK_BYTES);
    this.#chunks.read(chunk, bytes, 0);
    this.#kept.set(chunk, bytes);
  }

  /** Eight bits a byte, the lowest first, from byte `at` on. Each byte may be read once, in order. */
  read(into: Uint8Array, at: number): void {
    for (let done = 0; done < into.length; ) {
      const chunk = Math.floor((at + done) / CHUNK_BYTES);
      const from = (at + done) % CHUNK_BYTES;
      const kept = this.#kept.get(chunk);
      const end = kept === undefined ? this.#endOfRun(chunk, (at + into.length) / CHUNK_BYTES) : chunk + 1;
      const piece = into.subarray(done, end * CHUNK_BYTES - at);
      if (kept === undefined) this.#chunks.read(chunk, piece, from);
      else {
        piece.set(kept.subarray(from, from + piece.length));
        if (from + piece.length === CHUNK_BYTES) this.#kept.delete(chunk);
      }
      done += piece.length;
      this.#passed = Math.floor((at + done) / CHUNK_BYTES);
    }
  }

  /** The chunk after those that are uniform as this one is, which is the usual case; up to `limit`. */
  #endOfRun(chunk: number, limit: number): number {
    const { slots } = this.#chunks;
    const slot = slots[chunk] ?? ZEROS;
    let end = chunk + 1;
    if (slot > ONES) return end;
    while (end < limit && slots[end] === slot && (this.#kept.size === 0 || !this.#kept.has(end))) end++;
    return end;
  }

  release(): void {
    this.#kept.clear();
    this.#onRelease();
  }
}
