/** Bytes as they come off a socket, taken out in pieces of known length. Whoever pushes bounds how much may wait. */
export class ByteQueue {
  #pieces: Buffer[] = [];
  #length = 0;

  get length(): number {
    return this.#length;
  }

  push(piece: Buffer): void {
    if (piece.length === 0) return;
    this.#pieces.push(piece);
    this.#length += piece.length;
  }

  /** The first `length` bytes without taking them; at least that many must be there. */
  peek(length: number): Buffer {
    const [first] = this.#pieces;
    if (first !== undefined && first.length >= length) return first.subarray(0, length);
    this.#pieces = [Buffer.concat(this.#pieces)];
    return this.#pieces[0]?.subarray(0, length) ?? Buffer.alloc(0);
  }

  /** Takes between 1 and `most` bytes without copying any; at least one must be there. */
  takeSome(most: number): Buffer {
    return this.take(Math.min(most, this.#pieces[0]?.length ?? 1));
  }

  /** Takes `length` bytes, of which at least that many must be there: a view where they came in one piece. */
  take(length: number): Buffer {
    if (length > this.#length) throw new RangeError(`${length} bytes of ${this.#length}`);
    this.#length -= length;
    const [first] = this.#pieces;
    if (first !== undefined && first.length > length) {
      this.#pieces[0] = first.subarray(length);
      return first.subarray(0, length);
    }
    if (first !== undefined && first.length === length) {
      this.#pieces.shift();
      return first;
    }
    const taken: Buffer[] = [];
    let missing = length;
    let count = 0;
    while (missing > 0) {
      const next = this.#pieces[count] as Buffer;
      taken.push(next.subarray(0, missing));
      if (next.length > missing) {
        this.#pieces[count] = next.subarray(missing);
        break;
      }
      missing -= next.length;
      count++;
    }
    this.#pieces.splice(0, count);
    return Buffer.concat(taken, length);
  }
}
