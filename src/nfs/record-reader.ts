import { VmRestoreError } from "../base/errors.ts";

const LAST = 0x80000000;

/** A peer that breaks record marking: the connection cannot go on. */
export class RecordError extends VmRestoreError {
  constructor(detail: string) {
    super("NFS_RECORD", detail);
  }
}

/** Record marking (RFC 5531, section 11): puts fragments together, bounded in bytes and number. */
export class RecordReader {
  readonly #limit: number;
  #pending: Buffer[] = [];
  #buffered = 0;
  #fragments: Buffer[] = [];
  #recordBytes = 0;

  /** @param limit bytes of a whole record */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** The records that this piece completes, in order. They may be views of what was pushed. */
  *push(piece: Buffer): Generator<Buffer> {
    this.#pending.push(piece);
    this.#buffered += piece.length;
    for (;;) {
      if (this.#buffered < 4) return;
      const mark = this.#peek();
      const length = (mark & ~LAST) >>> 0;
      if (this.#recordBytes + length > this.#limit) throw new RecordError(`a record of over ${this.#limit} bytes`);
      if (this.#buffered < 4 + length) return;
      this.#take(4);
      if (length > 0) this.#fragments.push(this.#take(length));
      this.#recordBytes += length;
      if (this.#fragments.length > 1024) throw new RecordError("a record in over 1,024 fragments");
      if ((mark & LAST) === 0) {
        if (length === 0) throw new RecordError("an empty fragment");
        continue;
      }
      const [only] = this.#fragments;
      const record = this.#fragments.length === 1 && only !== undefined ? only : Buffer.concat(this.#fragments);
      this.#fragments = [];
      this.#recordBytes = 0;
      yield record;
    }
  }

  #peek(): number {
    const [first] = this.#pending;
    if (first !== undefined && first.length >= 4) return first.readUInt32BE(0);
    this.#pending = [Buffer.concat(this.#pending)];
    return this.#pending[0]?.readUInt32BE(0) ?? 0;
  }

  #take(length: number): Buffer {
    this.#buffered -= length;
    const [first] = this.#pending;
    if (first !== undefined && first.length >= length) {
      if (first.length === length) this.#pending.shift();
      else this.#pending[0] = first.subarray(length);
      return first.subarray(0, length);
    }
    const taken: Buffer[] = [];
    let missing = length;
    while (missing > 0) {
      const next = this.#pending.shift() as Buffer;
      if (next.length > missing) this.#pending.unshift(next.subarray(missing));
      taken.push(next.subarray(0, missing));
      missing -= Math.min(missing, next.length);
    }
    return Buffer.concat(taken, length);
  }
}
