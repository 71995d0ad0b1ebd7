import { DiskError } from "../errors.ts";
import type { OverlayDirectory } from "./files.ts";

/** After so many bytes the free ones are looked at again although there should be more: somebody else may write there too. */
const LOOK_EVERY = 64 * 1024 * 1024;

/**
 * What guests' data may still take of a claim, so that bytes stay free for what must go on when it is full: checkpoints, and the agent's
 * own state. One for all overlays of a claim (docs/overlay.md, "A full claim").
 */
export class ClaimRoom {
  readonly #directory: Pick<OverlayDirectory, "free">;
  #kept: number;
  /** Bytes that may be taken before the free ones are looked at again. */
  #left = 0;
  /** Bytes taken since they were looked at. */
  #since = 0;
  /** Of all writes so far, and of those that are over. */
  #taken = 0;
  #over = 0;
  #looking: Promise<void> | undefined;

  /** @param kept bytes that stay free beside those of {@link keep} */
  constructor(directory: Pick<OverlayDirectory, "free">, kept = 0) {
    this.#directory = directory;
    this.#kept = kept;
  }

  /** From now on so many bytes more stay free. */
  keep(bytes: number): void {
    this.#kept += bytes;
    this.#left = 0;
  }

  /**
   * Before a write that needs so many new bytes at most. Call what it gives back once the write is over, with whether it found its space.
   *
   * @throws DiskError OVERLAY_FULL where too few are free
   */
  async take(bytes: number): Promise<(foundSpace: boolean) => void> {
    if (bytes > 0 && (bytes > this.#left || this.#since > LOOK_EVERY)) await this.#look();
    if (bytes > 0 && bytes > this.#left) throw new DiskError("OVERLAY_FULL", "the overlay's claim is full");
    this.#left -= bytes;
    this.#since += bytes;
    this.#taken += bytes;
    return (foundSpace) => {
      this.#over += bytes;
      if (!foundSpace) this.#left = 0;
    };
  }

  /** Everybody who finds too few shares one look. */
  #look(): Promise<void> {
    this.#looking ??= this.#lookNow().finally(() => {
      this.#looking = undefined;
    });
    return this.#looking;
  }

  async #lookNow(): Promise<void> {
    // What is over only from here on may or may not be among the free bytes: it is taken off.
    const over = this.#over;
    // Where nobody knows how many there are, only a write can tell.
    const free = await this.#directory.free().catch(() => Number.POSITIVE_INFINITY);
    this.#left = free - this.#kept - (this.#taken - over);
    this.#since = 0;
  }
}
