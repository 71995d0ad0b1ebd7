import type { IdTable } from "./id-table.ts";

/** One blob of a file and the bytes of the file that it holds. */
export interface FileBlob {
  /** Position in the file's list. */
  readonly index: number;
  /** 64 hex digits. */
  readonly id: string;
  /** Where it begins in the file. */
  readonly offset: number;
  readonly length: number;
  /** Known to hold nothing but zeros: it need not be fetched. */
  readonly zero: boolean;
}

/** A file of a snapshot as the ordered list of its blobs, in typed arrays: 13 bytes a blob, beside the table of their ids. */
export class RepositoryFile {
  /** Absolute path in the snapshot. */
  readonly path: string;
  readonly size: number;
  readonly blobCount: number;
  readonly #ids: IdTable;
  readonly #numbers: Uint32Array;
  /** Where each blob begins, and at the end the file's size. */
  readonly #offsets: Float64Array;
  readonly #zero: Uint8Array;

  /** @param numbers of its blobs in the table `ids`. @param zero 1 for each blob of zeros */
  constructor(path: string, ids: IdTable, numbers: Uint32Array, offsets: Float64Array, zero: Uint8Array) {
    this.path = path;
    this.#ids = ids;
    this.#numbers = numbers;
    this.#offsets = offsets;
    this.#zero = zero;
    this.blobCount = zero.length;
    this.size = offsets[this.blobCount] ?? 0;
  }

  /** The blob at a position of the list, `0 ≤ index < blobCount`. */
  blob(index: number): FileBlob {
    const offset = this.#offsets[index];
    const end = this.#offsets[index + 1];
    if (offset === undefined || end === undefined) throw new RangeError(`blob ${index} of ${this.blobCount}`);
    return {
      index,
      id: this.#ids.hex(this.#numbers[index] ?? 0),
      offset,
      length: end - offset,
      zero: this.#zero[index] === 1,
    };
  }

  /** The position of the blob that holds the byte at `offset`, `0 ≤ offset < size`. */
  indexAt(offset: number): number {
    let low = 0;
    let high = this.blobCount - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if ((this.#offsets[middle] ?? 0) <= offset) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** The blobs that hold the bytes `[offset, offset + length)`, in order. */
  *blobsIn(offset: number, length: number): Generator<FileBlob> {
    const end = Math.min(offset + length, this.size);
    if (offset >= end) return;
    for (let index = this.indexAt(offset); index < this.blobCount; index++) {
      const blob = this.blob(index);
      if (blob.offset >= end) return;
      if (blob.length > 0) yield blob;
    }
  }
}
