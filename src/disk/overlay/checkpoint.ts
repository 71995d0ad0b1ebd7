import { setImmediate as nextTurn } from "node:timers/promises";
import { crc32 } from "../../base/crc32.ts";
import type { BitmapView } from "../bitmap.ts";
import { DiskError } from "../errors.ts";
import type { OverlayDirectory, OverlayFile } from "./files.ts";
import { PAGE, PageMap } from "./page-map.ts";

const FORMAT = "VMRMAP";
const MAGIC = `${FORMAT}01`;
const HEADER = 64;
const FLAG = { sealed: 1, frozenFinal: 2 } as const;
/** Behind it the header holds zeros, until a later version puts something there. */
const HEADER_USED = 40;
const PARTIAL = 8;
const CHECKSUM = 4;
/** A multiple of what a bitmap takes over at once, and of a partial page's entry. */
const PIECE = 1024 * 1024;
const NOTHING = Buffer.alloc(PIECE);

/** A page map as it stood at one moment, with what is needed to go on from there. */
export interface Checkpoint {
  readonly map: PageMap;
  /** Bytes of the disk. */
  readonly size: number;
  readonly epoch: number;
  /** The journal that continues it. */
  readonly journal: number;
}

/** How long a checkpoint is at most, with so many partial pages. */
export function mapBytes(pages: number, partials: number): number {
  return HEADER + 4 * Math.ceil(pages / 8) + partials * PARTIAL + CHECKSUM;
}

/** A page map as it stands now, to be written while it changes: nothing of it is copied but what does. */
export class CheckpointView {
  readonly #header: Buffer;
  readonly #bitmaps: readonly BitmapView[];
  readonly #partials: Buffer;
  readonly #bitmapBytes: number;

  /** One at a time for a map. Whoever took it releases it. */
  constructor({ map, size, epoch, journal }: Checkpoint) {
    const header = Buffer.alloc(HEADER);
    header.write(MAGIC, 0, "latin1");
    header.writeBigUInt64LE(BigInt(size), 8);
    header.writeUInt32LE(epoch, 16);
    header.writeUInt32LE(journal, 20);
    header.writeUInt32LE(map.frozenId, 24);
    header.writeUInt32LE(map.lastId, 28);
    header.writeUInt32LE((map.sealed ? FLAG.sealed : 0) | (map.frozenFinal ? FLAG.frozenFinal : 0), 32);
    header.writeUInt32LE(map.partial.size, 36);
    this.#header = header;
    this.#bitmapBytes = Math.ceil(map.pages / 8);
    this.#bitmaps = [map.full, map.zero, map.dirty, map.frozen].map((bitmap) => bitmap.view());
    this.#partials = Buffer.allocUnsafe(map.partial.size * PARTIAL);
    let at = 0;
    for (const [page, mask] of map.partial) {
      this.#partials.writeUInt32LE(page, at);
      this.#partials.writeUInt32LE(mask, at + 4);
      at += PARTIAL;
    }
  }

  /** The checkpoint's bytes but for the checksum, in pieces that are good until the next one is asked for. Once only. */
  *pieces(): Generator<Buffer> {
    const piece = Buffer.allocUnsafe(Math.min(PIECE, HEADER + 4 * this.#bitmapBytes + this.#partials.length));
    let filled = this.#header.copy(piece);
    for (const bitmap of this.#bitmaps) {
      for (let at = 0; at < this.#bitmapBytes; ) {
        const length = Math.min(piece.length - filled, this.#bitmapBytes - at);
        bitmap.read(piece.subarray(filled, filled + length), at);
        at += length;
        filled += length;
        if (filled < piece.length) continue;
        yield piece;
        filled = 0;
      }
    }
    for (let at = 0; at < this.#partials.length; ) {
      const copied = this.#partials.copy(piece, filled, at);
      at += copied;
      filled += copied;
      if (filled < piece.length) continue;
      yield piece;
      filled = 0;
    }
    if (filled > 0) yield piece.subarray(0, filled);
  }

  release(): void {
    for (const bitmap of this.#bitmaps) bitmap.release();
  }
}

/**
 * Puts a checkpoint with its checksum in the place of the map that stood there: the old or the new one is there after any crash. It may
 * be hundreds of megabytes, most of them zeros: those are left out of the file, and nothing takes more than a piece of memory.
 */
export async function saveCheckpoint(directory: OverlayDirectory, disk: string, view: CheckpointView): Promise<void> {
  const fresh = `${disk}.map.new`;
  // One that a crash left has bytes where this one has none.
  await directory.remove(fresh);
  const file = await directory.open(fresh);
  try {
    let sum = 0;
    let length = 0;
    for (const piece of view.pieces()) {
      sum = crc32(piece, sum);
      if (NOTHING.compare(piece, 0, piece.length, 0, piece.length) !== 0) await file.write(piece, length);
      else await nextTurn();
      length += piece.length;
    }
    const checksum = Buffer.alloc(CHECKSUM);
    checksum.writeUInt32LE(sum);
    await file.write(checksum, length);
    await file.datasync();
  } finally {
    await file.close();
  }
  await directory.rename(fresh, `${disk}.map`);
  await directory.sync();
}

/**
 * The checkpoint that stands, or undefined where this disk has no overlay yet.
 *
 * @throws DiskError OVERLAY_CORRUPT, OVERLAY_VERSION
 */
export async function loadCheckpoint(directory: OverlayDirectory, disk: string): Promise<Checkpoint | undefined> {
  const name = `${disk}.map`;
  if (!(await directory.exists(name))) return undefined;
  const file = await directory.open(name);
  try {
    return await readCheckpoint(file, name);
  } finally {
    await file.close();
  }
}

async function readCheckpoint(file: OverlayFile, name: string): Promise<Checkpoint> {
  const header = Buffer.alloc(HEADER);
  await file.read(header, 0);
  const magic = header.toString("latin1", 0, MAGIC.length);
  if (magic !== MAGIC && /^\d\d$/.test(magic.slice(FORMAT.length)) && magic.startsWith(FORMAT))
    throw ofAnotherVersion(`${name} has the format ${magic}, not ${MAGIC}`);
  if (file.size < HEADER + CHECKSUM || magic !== MAGIC) throw corrupt(`${name} is not an overlay's map`);
  const size = Number(header.readBigUInt64LE(8));
  const pages = Math.ceil(size / PAGE);
  const bitmapBytes = Math.ceil(pages / 8);
  const partials = header.readUInt32LE(36);
  const end = HEADER + 4 * bitmapBytes + partials * PARTIAL;
  // Before anything is believed of the lengths, memory is taken for them: a damaged one must not ask for more than the file holds.
  if (file.size !== end + CHECKSUM) throw corrupt(`the length of ${name} does not fit its content`);

  const map = new PageMap(pages);
  let sum = crc32(header);
  const piece = Buffer.allocUnsafe(Math.min(PIECE, Math.max(bitmapBytes, partials * PARTIAL)));
  const read = async (at: number, length: number): Promise<Buffer> => {
    const bytes = piece.subarray(0, length);
    await file.read(bytes, at);
    sum = crc32(bytes, sum);
    return bytes;
  };
  for (const [index, bitmap] of [map.full, map.zero, map.dirty, map.frozen].entries()) {
    const from = HEADER + index * bitmapBytes;
    for (let at = 0; at < bitmapBytes; at += PIECE) {
      const bytes = await read(from + at, Math.min(PIECE, bitmapBytes - at));
      if (NOTHING.compare(bytes, 0, bytes.length, 0, bytes.length) !== 0) bitmap.load(bytes, at);
    }
  }
  for (let from = HEADER + 4 * bitmapBytes; from < end; from += PIECE) {
    const bytes = await read(from, Math.min(PIECE, end - from));
    for (let at = 0; at < bytes.length; at += PARTIAL)
      map.partial.set(bytes.readUInt32LE(at), bytes.readUInt32LE(at + 4));
  }
  const checksum = Buffer.alloc(CHECKSUM);
  await file.read(checksum, end);
  if (sum !== checksum.readUInt32LE(0)) throw corrupt(`the checksum of ${name} does not fit`);
  map.frozenId = header.readUInt32LE(24);
  map.lastId = header.readUInt32LE(28);
  const flags = header.readUInt32LE(32);
  // They would be gone from the map that replaces this one, and what they stand for with them.
  if ((flags & ~(FLAG.sealed | FLAG.frozenFinal)) !== 0 || header.subarray(HEADER_USED).some((byte) => byte !== 0))
    throw ofAnotherVersion(`${name} says what is not known here`);
  map.sealed = (flags & FLAG.sealed) !== 0;
  map.frozenFinal = (flags & FLAG.frozenFinal) !== 0;
  return { map, size, epoch: header.readUInt32LE(16), journal: header.readUInt32LE(20) };
}

/** What is on the claim cannot have been left by any crash. */
export function corrupt(detail: string): DiskError {
  return new DiskError("OVERLAY_CORRUPT", detail, {
    hint: "The claim's content was altered from outside. Restore anew, or put a copy of the claim in its place.",
  });
}

/** Nothing is wrong with it, and nothing was changed. */
export function ofAnotherVersion(detail: string): DiskError {
  return new DiskError("OVERLAY_VERSION", detail, {
    hint: "Another version of the media agent wrote this overlay, and nothing of it is lost: run the agent with the image of that version.",
  });
}
