import type { ReadClass } from "../disk/block-device.ts";

const MIB = 1024 * 1024;
/** Copies keep several requests under way, which arrive a little out of order. */
const SLACK = 64 * MIB;
/** A guest's reads that run on for this long are a copy of the disk (a live migration's), no work of the guest. */
const SEQUENCE = 32 * MIB;
const STREAMS = 8;

/**
 * Where a copy of a disk has come to, told from its reads. A copy Job's come as the relocation's; a live migration reads through
 * the guest's own export and is recognised by its sequence.
 */
export class RelocationCursor {
  #position: number;
  /** Ends of the guest's runs of reads, and how long each run is; the last used is the last. */
  #streams: { end: number; length: number }[] = [];

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
    else if (readClass === "guest" && this.#isLongRun(offset, length)) this.#advance(offset, offset + length);
    return this.#position !== before;
  }

  #advance(start: number, end: number): void {
    const isNear = start >= this.#position - SLACK;
    // Far behind: the copy has begun anew.
    this.#position = isNear ? Math.max(this.#position, end) : end;
  }

  #isLongRun(offset: number, length: number): boolean {
    const index = this.#streams.findIndex(({ end }) => offset >= end - MIB * 16 && offset <= end + MIB * 16);
    const [stream] = index < 0 ? [{ end: offset, length: 0 }] : this.#streams.splice(index, 1);
    if (stream === undefined) return false;
    // Only what goes on counts: a page that is read again and again is no sequence.
    stream.length += Math.max(0, Math.min(length, offset + length - stream.end));
    stream.end = Math.max(stream.end, offset + length);
    this.#streams.push(stream);
    if (this.#streams.length > STREAMS) this.#streams.shift();
    return stream.length >= SEQUENCE;
  }
}
