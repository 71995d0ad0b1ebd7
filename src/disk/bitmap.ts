import type { Extent } from "./block-device.ts";

/** A fixed number of bits, with how many of them are set. */
export class Bitmap {
  readonly length: number;
  readonly bytes: Uint8Array;
  #count = 0;

  /** @param bytes initial content, e.g. from a checkpoint; taken over, not copied. */
  constructor(length: number, bytes?: Uint8Array) {
    this.length = length;
    this.bytes = bytes ?? new Uint8Array(Math.ceil(length / 8));
    // The pages of a large disk are tens of megabytes of bits: those that are known to be zero are not looked at.
    for (const byte of bytes ?? []) this.#count += BITS[byte] ?? 0;
  }

  /** How many bits are set. */
  get count(): number {
    return this.#count;
  }

  has(index: number): boolean {
    return ((this.bytes[index >>> 3] ?? 0) & (1 << (index & 7))) !== 0;
  }

  /** Gives back whether the bit changed. */
  add(index: number): boolean {
    if (this.has(index)) return false;
    this.bytes[index >>> 3] = (this.bytes[index >>> 3] ?? 0) | (1 << (index & 7));
    this.#count++;
    return true;
  }

  /** Gives back whether the bit changed. */
  delete(index: number): boolean {
    if (!this.has(index)) return false;
    this.bytes[index >>> 3] = (this.bytes[index >>> 3] ?? 0) & ~(1 << (index & 7));
    this.#count--;
    return true;
  }

  clear(): void {
    this.bytes.fill(0);
    this.#count = 0;
  }

  /** The first index in `[from, to)` whose bit is `value`, or `to`. */
  next(value: boolean, from: number, to: number): number {
    const uniform = value ? 0 : 0xff;
    let index = from;
    while (index < to) {
      if ((index & 7) === 0 && index + 8 <= to && this.bytes[index >>> 3] === uniform) index += 8;
      else if (this.has(index) === value) return index;
      else index++;
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
}

const BITS = Uint8Array.from({ length: 256 }, (_, byte) => byte.toString(2).replaceAll("0", "").length);
