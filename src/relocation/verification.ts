import { RelocationError } from "./errors.ts";
import { ImageHash } from "./image-hash.ts";
import type { Source } from "./source.ts";
import type { Target } from "./target.ts";

const PIECE = 1024 * 1024;
/** Reads of the source under way, and pieces waiting to be hashed. */
const AT_ONCE = 8;
const FILE_STEP = 64 * 1024 * 1024;

/**
 * Compares the sealed merged image, read over NBD, with the target, read back, by SHA-256. What has been hashed stays
 * hashed when the connection breaks: the disk is sealed, so another connection goes on where the last one ended.
 */
export class Verification {
  readonly #target: Target;
  readonly #sourceHash = new ImageHash();
  readonly #targetHash = new ImageHash();
  #sourceAt = 0;
  #targetAt = 0;

  constructor(target: Target) {
    this.#target = target;
  }

  /** Hashes what comes before the held-back page, on both sides. */
  async body(source: Source, signal: AbortSignal): Promise<void> {
    const abort = new AbortController();
    const both = AbortSignal.any([signal, abort.signal]);
    const sides = [
      this.#source(source, this.#target.heldBackFrom, both),
      this.#file(this.#target.heldBackFrom, both),
    ].map((side) =>
      side.catch((error: unknown) => {
        abort.abort(error);
        throw error;
      }),
    );
    const outcomes = await Promise.allSettled(sides);
    for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
  }

  /**
   * Hashes the held-back page, now that the target has it too, and compares.
   *
   * @returns the SHA-256 that both have, hex
   * @throws RelocationError RELOCATION_VERIFY_FAILED
   */
  async conclude(lastPage: Buffer, signal: AbortSignal): Promise<string> {
    await this.#sourceHash.data(Buffer.from(lastPage));
    await this.#file(this.#target.size, signal);
    const [expected, found] = await Promise.all([this.#sourceHash.digest(), this.#targetHash.digest()]);
    if (expected !== found) {
      throw new RelocationError(
        "RELOCATION_VERIFY_FAILED",
        `${this.#target.path} has the SHA-256 ${found}, the disk ${expected}`,
        { hint: "do not start the VM from this target; the media agent still has every byte" },
      );
    }
    return expected;
  }

  async close(): Promise<void> {
    await Promise.all([this.#sourceHash.close(), this.#targetHash.close()]);
  }

  async #file(to: number, signal: AbortSignal): Promise<void> {
    while (this.#targetAt < to) {
      signal.throwIfAborted();
      const end = Math.min(to, this.#targetAt + FILE_STEP);
      await this.#targetHash.file(this.#target.path, this.#targetAt, end);
      this.#targetAt = end;
    }
  }

  async #source(source: Source, end: number, signal: AbortSignal): Promise<void> {
    const ahead: { readonly length: number; readonly bytes: Promise<Buffer> | undefined }[] = [];
    const hashing: Promise<void>[] = [];
    const takeFirst = async (): Promise<void> => {
      const first = ahead.shift();
      if (first === undefined) return;
      const { length } = first;
      const hashed =
        first.bytes === undefined ? this.#sourceHash.zeros(length) : this.#sourceHash.data(await first.bytes);
      hashed.catch(() => undefined); // told when it is waited for
      hashing.push(hashed);
      this.#sourceAt += length;
      if (hashing.length > AT_ONCE) await hashing.shift();
    };
    try {
      for await (const run of source.allocation(this.#sourceAt, end)) {
        for (let at = run.offset; at < run.offset + run.length; at += PIECE) {
          signal.throwIfAborted();
          const length = Math.min(PIECE, run.offset + run.length - at);
          const bytes = run.matters ? source.read(at, length) : undefined;
          bytes?.catch(() => undefined); // told when its turn comes
          ahead.push({ length, bytes });
          if (ahead.length >= AT_ONCE) await takeFirst();
        }
      }
      while (ahead.length > 0) await takeFirst();
    } finally {
      await Promise.all(hashing);
    }
  }
}
