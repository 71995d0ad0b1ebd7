import { close, fsync, open, read, readSync, readv, readvSync } from "node:fs";
import { promisify } from "node:util";
import { errorCode } from "../../base/errors.ts";
import { isIntact, PIECE } from "./piece-checksums.ts";
import type { Residency, ResidentPieces } from "./residency.ts";

const openFile = promisify(open);
const closeFile = promisify(close);
const syncFile = promisify(fsync);

const NOTHING = Buffer.alloc(0);
/** A longer read is left to a thread: it would keep the event loop for more than half a millisecond. */
const AT_ONCE = 1024 * 1024;
/** A longer one may wait for a turn of the event loop, and is not copied where it cuts pieces. */
const SMALL = 64 * 1024;
/** Where pieces are read to whose ends nobody asked for. Used only while nothing else can run. */
const SCRATCH = Buffer.allocUnsafeSlow(SMALL + 2 * PIECE);
/** The same for a long read: only the ends of the pieces that it cuts. */
const BEFORE = Buffer.allocUnsafeSlow(PIECE);
const AFTER = Buffer.allocUnsafeSlow(PIECE);

/** What the system lacked for a moment. It says nothing of the file. */
const PASSING = new Set(["EMFILE", "ENFILE", "EINTR", "EAGAIN", "ENOMEM", "ENOBUFS"]);

/** The file was closed before it could be read: whoever opens it again may read it. */
class ClosedError extends Error {}

/** Whether the same may succeed a moment later: what failed says nothing of the entry. */
export function isPassing(error: unknown): boolean {
  return error instanceof ClosedError || PASSING.has(errorCode(error) ?? "");
}

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
    if (this.#isClosing) throw new ClosedError("closed");
    if (into.length === 0) return;
    const { start, end } = this.#around(offset, into.length);
    const [first, count] = [start / PIECE, Math.ceil((end - start) / PIECE)];
    const isBelieved = (): boolean => into.length <= AT_ONCE && this.#residency.has(this.#resident, first, count);
    const readNow = (): void => this.#residency.watch(() => this.#readNow(offset, into, start, end));
    const isLong = into.length > SMALL;
    const mayBeNow = isBelieved();
    const budget = isLong ? this.#residency.long : this.#residency.short;
    if (mayBeNow && budget.take(into.length)) return readNow();
    this.#reading++;
    try {
      if (mayBeNow && isLong) {
        await budget.wait(into.length);
        if (isBelieved()) return readNow();
      }
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

  /**
   * Reads all of it, piece by piece.
   *
   * @throws where it is not what was put there
   */
  async verify(): Promise<void> {
    const bytes = Buffer.allocUnsafe(Math.min(this.#length, AT_ONCE));
    for (let at = 0; at < this.#length; at += bytes.length) {
      await this.read(at, bytes.subarray(0, Math.min(bytes.length, this.#length - at)));
    }
  }

  /**
   * Makes its bytes durable, not its name.
   *
   * @throws where that fails; what a sync that failed leaves on the device is unknown, whatever a later one says
   */
  sync(): Promise<void> {
    return syncFile(this.#descriptor);
  }

  /** Reads under way are let run out. */
  async close(): Promise<void> {
    if (this.#isClosing) return;
    this.#isClosing = true;
    if (this.#reading === 0) await closeFile(this.#descriptor);
  }

  #readNow(offset: number, into: Buffer, start: number, end: number): void {
    const first = start / PIECE;
    const length = end - start;
    if (length === into.length) {
      if (readSync(this.#descriptor, into, 0, length, start) !== length) throw new Error("cut off");
      this.#check(NOTHING, into, NOTHING, first);
    } else if (into.length <= SMALL) {
      const pieces = SCRATCH.subarray(0, length);
      if (readSync(this.#descriptor, pieces, 0, length, start) !== length) throw new Error("cut off");
      this.#check(NOTHING, pieces, NOTHING, first);
      pieces.copy(into, 0, offset - start);
    } else {
      const before = BEFORE.subarray(0, offset - start);
      const after = AFTER.subarray(0, end - offset - into.length);
      if (readvSync(this.#descriptor, [before, into, after], start) !== length) throw new Error("cut off");
      this.#check(before, into, after, first);
    }
  }

  /** The whole pieces around a range; the last one may be short. */
  #around(offset: number, length: number): { start: number; end: number } {
    const start = Math.floor(offset / PIECE) * PIECE;
    return { start, end: Math.min(this.#length, Math.ceil((offset + length) / PIECE) * PIECE) };
  }

  #check(before: Buffer, middle: Buffer, after: Buffer, first: number): void {
    if (!isIntact(before, middle, after, this.#checksums, first)) throw new Error("altered");
  }
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
