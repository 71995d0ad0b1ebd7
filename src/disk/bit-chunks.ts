export const CHUNK_BYTES = 64;
export const CHUNK_BITS = CHUNK_BYTES * 8;
/** Slots of chunks whose bits are all the same, which take no memory. */
export const ZEROS = 0;
export const ONES = 1;
const FIRST = 2;
/** A slab holds two to the power of it, or one where there are fewer chunks than that. */
const SLAB_SHIFT = 10;

/** Bits in chunks of 512; of those that are not all zeros and not all ones, the bytes lie in slabs. No counting, no checking: see `Bitmap`. */
export class BitChunks {
  /** For each chunk {@link ZEROS}, {@link ONES}, or where its bytes are. */
  readonly slots: Uint32Array;
  #slabs: Uint8Array[] = [];
  readonly #shift: number;
  /** Slots that were given back. */
  #free: number[] = [];
  /** The slot that has never been used. */
  #fresh = FIRST;

  constructor(count: number) {
    this.slots = new Uint32Array(count);
    this.#shift = count >= 1 << SLAB_SHIFT ? SLAB_SHIFT : 0;
  }

  get heldBytes(): number {
    return this.slots.byteLength + this.#slabs.length * (CHUNK_BYTES << this.#shift) + this.#free.length * 8;
  }

  /** The slab that a slot from 2 on lies in. */
  bytesOf(slot: number): Uint8Array {
    return this.#slabs[(slot - FIRST) >>> this.#shift] as Uint8Array;
  }

  /** Where in its slab. */
  placeOf(slot: number): number {
    return ((slot - FIRST) & ((1 << this.#shift) - 1)) * CHUNK_BYTES;
  }

  flip(chunk: number, byte: number, bit: number): void {
    const slot = this.#own(chunk);
    const bytes = this.bytesOf(slot);
    const place = this.placeOf(slot);
    const changed = (bytes[place + byte] as number) ^ bit;
    bytes[place + byte] = changed;
    if (changed !== 0 && changed !== 0xff) return;
    for (let at = place; at < place + CHUNK_BYTES; at++) if (bytes[at] !== changed) return;
    this.fill(chunk, changed !== 0);
  }

  fill(chunk: number, value: boolean): void {
    const slot = this.slots[chunk] as number;
    if (slot >= FIRST) this.#free.push(slot);
    this.slots[chunk] = value ? ONES : ZEROS;
    const isUnused = slot >= FIRST && this.#free.length === this.#fresh - FIRST;
    if (!isUnused) return;
    this.#slabs = [];
    this.#free = [];
    this.#fresh = FIRST;
  }

  /** How many bits of the chunk are set. */
  count(chunk: number): number {
    const slot = this.slots[chunk] as number;
    if (slot < FIRST) return slot === ONES ? CHUNK_BITS : 0;
    const place = this.placeOf(slot);
    return bitsOf(this.bytesOf(slot).subarray(place, place + CHUNK_BYTES));
  }

  /** Bytes of the chunk from its byte `from` on. */
  read(chunk: number, into: Uint8Array, from: number): void {
    const slot = this.slots[chunk] ?? ZEROS;
    if (slot < FIRST) into.fill(slot === ONES ? 0xff : 0);
    else {
      const at = this.placeOf(slot) + from;
      into.set(this.bytesOf(slot).subarray(at, at + into.length));
    }
  }

  /** Puts in the bytes of a chunk that is all zeros. Gives back how many bits they set. */
  load(chunk: number, bytes: Uint8Array): number {
    const count = bitsOf(bytes);
    if (count === CHUNK_BITS) this.slots[chunk] = ONES;
    else if (count > 0) {
      const slot = this.#own(chunk);
      this.bytesOf(slot).set(bytes, this.placeOf(slot));
    }
    return count;
  }

  /** A slot with the chunk's bytes. */
  #own(chunk: number): number {
    const before = this.slots[chunk] as number;
    if (before >= FIRST) return before;
    const slot = this.#free.pop() ?? this.#fresh++;
    this.#slabs[(slot - FIRST) >>> this.#shift] ??= new Uint8Array(CHUNK_BYTES << this.#shift);
    const place = this.placeOf(slot);
    this.bytesOf(slot).fill(before === ONES ? 0xff : 0, place, place + CHUNK_BYTES);
    this.slots[chunk] = slot;
    return slot;
  }
}

function bitsOf(bytes: Uint8Array): number {
  let count = 0;
  for (let at = 0; at < bytes.length; at++) count += BITS[bytes[at] as number] as number;
  return count;
}

const BITS = Uint8Array.from({ length: 256 }, (_, byte) => byte.toString(2).replaceAll("0", "").length);
