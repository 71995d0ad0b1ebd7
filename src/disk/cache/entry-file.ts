import { close, open, read, readSync, readv } from "node:fs";
import { promisify } from "node:util";
import { crc32 } from "node:zlib";
import type { Residency, ResidentPieces } from "./residency.ts";

const openFile = promisify(open);
const closeFile = promisify(close);

/** Checksums are kept for pieces of this size: a small read checks no more than what it touches. */
export const PIECE = 4096;
const NOTHING = Buffer.alloc(0);
/** A longer read is left to a thread: what it costs to ask one is little beside it. */
const SMALL = 64 * 1024;
/** Where pieces are read to whose ends nobody asked for. Used only while nothing else can run. */
const SCRATCH = Buffer.allocUnsafeSlow(SMALL + 2 * PIECE);

/** A blob as it lies in the cache's directory: its bytes, then a CRC-32 for each 4 KiB of it. No byte leaves unchecked. */
export class EntryFile {
  readonly #descriptor: number;
  readonly #length: number;
  readonly #checksums: Uint32Array;
  readonly #resident: ResidentPieces;
  readonly #residency: Residency;
  /** Reads under way; the descriptor must not become another file's meanwhile. */
  #reading = 0;
  #isClosing = false;

  private constructor(
    descriptor: number,
    length: number,
    checksums: Uint32Array,
    resident: ResidentPieces,
    residency: Residency,
  ) {
    this.#descriptor = descriptor;
    this.#length = length;
    this.#checksums = checksums;
    this.#resident = resident;
    this.#residency = residency;
  }

  /**
   * @param length bytes of the blob
   * @throws where it cannot be opened, or is too short for its checksums
   */
  static async open(path: string, length: number, resident: ResidentPieces, residency: Residency): Promise<EntryFile> {
    const descriptor = await openFile(path, "r");
    try {
      const checksums = new Uint32Array(Math.ceil(length / PIECE));
      await readFully(descriptor, [Buffer.from(checksums.buffer)], length);
      return new EntryFile(descriptor, length, checksums, resident, residency);
    } catch (error) {
      await closeFile(descriptor);
      throw error;
    }
  }

  /**
   * Fills `into` with the blob's bytes from `offset`.
   *
   * @throws where they are not what was put there
   */
  async read(offset: number, into: Buffer): Promise<void> {
    if (this.#isClosing) throw new Error("closed");
    if (into.length === 0) return;
    const { start, end } = this.#around(offset, into.length);
    const [first, count] = [start / PIECE, Math.ceil((end - start) / PIECE)];
    if (into.length <= SMALL && this.#residency.has(this.#resident, first, count)) {
      this.#residency.watch(into.length, () => this.#readNow(offset, into, start, end));
      return;
    }
    this.#reading++;
    try {
      // What is asked for goes to its place at once; only the ends of pieces that it cuts lie elsewhere.
      const before = Buffer.allocUnsafe(offset - start);
      const after = Buffer.allocUnsafe(end - offset - into.length);
      const buffers = [before, into, after].filter((buffer) => buffer.length > 0);
      await readFully(this.#descriptor, buffers, start);
      this.#check(before, into, after, first);
      this.#residency.note(this.#resident, first, count);
    } finally {
      this.#reading--;
      if (this.#isClosing && this.#reading === 0) await closeFile(this.#descriptor);
    }
  }

  /** Reads under way are let run out. */
  async close(): Promise<void> {
    if (this.#isClosing) return;
    this.#isClosing = true;
    if (this.#reading === 0) await closeFile(this.#descriptor);
  }

  #readNow(offset: number, into: Buffer, start: number, end: number): void {
    const isWhole = end - start === into.length;
    const pieces = isWhole ? into : SCRATCH.subarray(0, end - start);
    if (readSync(this.#descriptor, pieces, 0, pieces.length, start) !== pieces.length) throw new Error("cut off");
    this.#check(NOTHING, pieces, NOTHING, start / PIECE);
    if (!isWhole) pieces.copy(into, 0, offset - start);
  }

  /** The whole pieces around a range; the last one may be short. */
  #around(offset: number, length: number): { start: number; end: number } {
    const start = Math.floor(offset / PIECE) * PIECE;
    return { start, end: Math.min(this.#length, Math.ceil((offset + length) / PIECE) * PIECE) };
  }

  /** Checks pieces that lie in three parts; only the first one begins in `before`, only the last one ends in `after`. */
  #check(before: Buffer, middle: Buffer, after: Buffer, first: number): void {
    let index = first;
    let at = Math.min(middle.length, PIECE - before.length);
    let sum = crc32(middle.subarray(0, at), crc32(before));
    while (at < middle.length) {
      if (sum !== this.#checksums[index++]) throw new Error("altered");
      sum = crc32(middle.subarray(at, at + PIECE));
      at += PIECE;
    }
    if (crc32(after, sum) !== this.#checksums[index]) throw new Error("altered");
  }
}

export function checksumsOf(content: Buffer): Buffer {
  const checksums = new Uint32Array(Math.ceil(content.length / PIECE));
  for (let index = 0; index < checksums.length; index++) {
    checksums[index] = crc32(content.subarray(index * PIECE, (index + 1) * PIECE));
  }
  return Buffer.from(checksums.buffer);
}

/** Without promises of its own at each step: a pool thread's answer costs half as much this way. */
function readFully(descriptor: number, buffers: readonly Buffer[], position: number): Promise<void> {
  const wanted = buffers.reduce((sum, buffer) => sum + buffer.length, 0);
  return new Promise((resolve, reject) => {
    const onRead = (error: Error | null, bytes: number): void => {
      if (error !== null) reject(error);
      else if (bytes === wanted) resolve();
      else reject(new Error("cut off"));
    };
    const [only] = buffers;
    if (buffers.length === 1 && only !== undefined) read(descriptor, only, 0, only.length, position, onRead);
    else readv(descriptor, buffers, position, onRead);
  });
}
