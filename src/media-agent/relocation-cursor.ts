import type { ReadClass } from "../disk/block-device.ts";

const MIB = 1024 * 1024;
/** Copies keep several requests under way, which arrive a little out of order. */
const SLACK = 64 * MIB;

/**
 * Where a copy of a disk has come to, told from its reads: a copy Job's, or a live migration's, which `CopyStream` tells from the
 * guest's.
 */
export class RelocationCursor {
  #position: number;

  /** @param start bytes that were copied earlier */
  constructor(start = 0) {
    this.#position = start;
  }

  /** Everything below it, save what is under way, was read. */
  get position(): number {
    return this.#position;
  }

  /** Gives back whether the position changed. */
  read(offset: number, length: number, readClass: ReadClass): boolean {
    const before = this.#position;
    if (readClass === "relocation") this.#advance(offset, offset + length);
    return this.#position !== before;
  }

  #advance(start: number, end: number): void {
    const isNear = start >= this.#position - SLACK;
    // Far behind: the copy has begun anew.
    this.#position = isNear ? Math.max(this.#position, end) : end;
  }
}
