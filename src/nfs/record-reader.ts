import { ByteQueue } from "../base/byte-queue.ts";
import { VmRestoreError } from "../base/errors.ts";

const LAST = 0x80000000;
const FRAGMENT_LIMIT = 1024;

/** A peer that breaks record marking: the connection cannot go on. */
export class RecordError extends VmRestoreError {
  constructor(detail: string) {
    super("NFS_RECORD", detail);
  }
}

/** Record marking (RFC 5531, section 11): puts fragments together, bounded in bytes and number. */
export class RecordReader {
  readonly #limit: number;
  readonly #queue = new ByteQueue();
  #fragments: Buffer[] = [];
  #recordBytes = 0;

  /** @param limit bytes of a whole record */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Bytes that came and do not make a whole record yet. */
  get pending(): number {
    return this.#recordBytes + this.#queue.length;
  }

  /** At most `most` bytes from the beginning of the record that is not whole yet. */
  beginning(most: number): Buffer {
    if (this.#fragments.length > 0) return Buffer.concat(this.#fragments).subarray(0, most);
    const length = Math.min(this.#queue.length, 4 + most);
    return this.#queue.peek(length).subarray(4);
  }

  /** The records that this piece completes, in order. They may be views of what was pushed. */
  *push(piece: Buffer): Generator<Buffer> {
    this.#queue.push(piece);
    while (this.#queue.length >= 4) {
      const mark = this.#queue.peek(4).readUInt32BE();
      const length = (mark & ~LAST) >>> 0;
      if (this.#recordBytes + length > this.#limit) throw new RecordError(`a record of over ${this.#limit} bytes`);
      if (this.#queue.length < 4 + length) return;
      this.#queue.take(4);
      if (length > 0) this.#fragments.push(this.#queue.take(length));
      this.#recordBytes += length;
      if (this.#fragments.length > FRAGMENT_LIMIT)
        throw new RecordError(`a record in over ${FRAGMENT_LIMIT} fragments`);
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
}
