import { closeSync, constants, openSync, readSync } from "node:fs";
import { errorCode } from "../base/errors.ts";
import { pageAligned } from "./buffer-pool.ts";

/** What O_DIRECT wants offsets and lengths to be multiples of, whatever the device. */
const DIRECT_UNIT = 4096;
/** Bytes. */
const CHUNK = 1024 * 1024;
/** One for a thread: its memory reserves far more addresses than it has bytes. */
const buffer = pageAligned(CHUNK);

/**
 * Reads a file or device from front to back as the device has it: what was written there is looked for, not what the page cache
 * remembers of it. Where the file system knows no O_DIRECT (tmpfs), and at an end that is no multiple of 4 KiB, it is the page cache that answers.
 */
export class UncachedReads {
  readonly #path: string;
  readonly #cached: number;
  #direct: number | undefined;

  /** @throws what `open` throws */
  constructor(path: string) {
    this.#path = path;
    this.#cached = openSync(path, constants.O_RDONLY);
    try {
      this.#direct = openSync(path, constants.O_RDONLY | constants.O_DIRECT);
    } catch {
      this.#direct = undefined;
    }
  }

  /**
   * The bytes `[from, to)` in pieces, each good until the next one is asked for, of this file or another. On the calling thread.
   *
   * @throws Error where the file ends before
   */
  *pieces(from: number, to: number): Generator<Buffer> {
    for (let at = from; at < to; ) {
      const length = this.#readDirect(at, to) || readSync(this.#cached, buffer, 0, Math.min(CHUNK, to - at), at);
      if (length === 0) throw new Error(`${this.#path} ends at ${at}`);
      yield buffer.subarray(0, length);
      at += length;
    }
  }

  close(): void {
    closeSync(this.#cached);
    if (this.#direct !== undefined) closeSync(this.#direct);
  }

  /** @returns 0 where it cannot be read so */
  #readDirect(at: number, to: number): number {
    const length = Math.min(CHUNK, Math.floor((to - at) / DIRECT_UNIT) * DIRECT_UNIT);
    if (this.#direct === undefined || length === 0 || at % DIRECT_UNIT !== 0) return 0;
    try {
      return readSync(this.#direct, buffer, 0, length, at);
    } catch (error) {
      // The file system took the flag, but not this use of it.
      if (errorCode(error) !== "EINVAL") throw error;
      return 0;
    }
  }
}
