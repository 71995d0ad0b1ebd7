import { crc32 } from "node:zlib";
import { Bitmap } from "../bitmap.ts";
import { DiskError } from "../errors.ts";
import type { OverlayDirectory } from "./files.ts";
import { PageMap } from "./page-map.ts";

const MAGIC = "VMRMAP01";
const HEADER = 64;
const PARTIAL = 8;
const CHECKSUM = 4;
const PIECE = 4 * 1024 * 1024;

/** A page map as it stood at one moment, with what is needed to go on from there. */
export interface Checkpoint {
  readonly map: PageMap;
  /** Bytes of the disk. */
  readonly size: number;
  readonly epoch: number;
  /** The journal that continues it. */
  readonly journal: number;
}

/** The checkpoint's bytes but for the checksum: a copy, so that the map may change while they are written. */
export function encodeCheckpoint({ map, size, epoch, journal }: Checkpoint): Buffer {
  const bitmaps = [map.full, map.zero, map.dirty, map.frozen];
  const bitmapBytes = Math.ceil(map.pages / 8);
  const bytes = Buffer.alloc(HEADER + 4 * bitmapBytes + map.partial.size * PARTIAL);
  bytes.write(MAGIC, 0, "latin1");
  bytes.writeBigUInt64LE(BigInt(size), 8);
  bytes.writeUInt32LE(epoch, 16);
  bytes.writeUInt32LE(journal, 20);
  bytes.writeUInt32LE(map.frozenId, 24);
  bytes.writeUInt32LE(map.lastId, 28);
  bytes.writeUInt32LE((map.sealed ? 1 : 0) | (map.frozenFinal ? 2 : 0), 32);
  bytes.writeUInt32LE(map.partial.size, 36);
  let at = HEADER;
  for (const bitmap of bitmaps) {
    bytes.set(bitmap.bytes, at);
    at += bitmapBytes;
  }
  for (const [page, mask] of map.partial) {
    bytes.writeUInt32LE(page, at);
    bytes.writeUInt32LE(mask, at + 4);
    at += PARTIAL;
  }
  return bytes;
}

/** @throws DiskError OVERLAY_CORRUPT */
export function decodeCheckpoint(bytes: Buffer, what: string): Checkpoint {
  if (bytes.length < HEADER + CHECKSUM || bytes.toString("latin1", 0, 8) !== MAGIC)
    throw corrupt(`${what} is not an overlay's map`);
  const end = bytes.length - CHECKSUM;
  if (crc32(bytes.subarray(0, end)) !== bytes.readUInt32LE(end)) throw corrupt(`the checksum of ${what} does not fit`);
  const size = Number(bytes.readBigUInt64LE(8));
  const map = new PageMap(Math.ceil(size / 4096));
  const bitmapBytes = Math.ceil(map.pages / 8);
  const partials = bytes.readUInt32LE(36);
  if (end !== HEADER + 4 * bitmapBytes + partials * PARTIAL)
    throw corrupt(`the length of ${what} does not fit its content`);
  const bitmap = (index: number): Bitmap => {
    const from = HEADER + index * bitmapBytes;
    return new Bitmap(map.pages, new Uint8Array(bytes.subarray(from, from + bitmapBytes)));
  };
  map.full = bitmap(0);
  map.zero = bitmap(1);
  map.dirty = bitmap(2);
  map.frozen = bitmap(3);
  map.frozenId = bytes.readUInt32LE(24);
  map.lastId = bytes.readUInt32LE(28);
  map.sealed = (bytes.readUInt32LE(32) & 1) !== 0;
  map.frozenFinal = (bytes.readUInt32LE(32) & 2) !== 0;
  for (let index = 0; index < partials; index++) {
    const at = HEADER + 4 * bitmapBytes + index * PARTIAL;
    map.partial.set(bytes.readUInt32LE(at), bytes.readUInt32LE(at + 4));
  }
  return { map, size, epoch: bytes.readUInt32LE(16), journal: bytes.readUInt32LE(20) };
}

/**
 * Puts the bytes and their checksum in the place of the map that stood there: the old or the new one is there after any crash. They may
 * be a hundred megabytes: the checksum is made piece by piece, between two writes.
 */
export async function saveCheckpoint(directory: OverlayDirectory, disk: string, bytes: Buffer): Promise<void> {
  const fresh = `${disk}.map.new`;
  const file = await directory.open(fresh);
  try {
    let sum = 0;
    for (let at = 0; at < bytes.length; at += PIECE) {
      const piece = bytes.subarray(at, at + PIECE);
      sum = crc32(piece, sum);
      await file.write(piece, at);
    }
    const checksum = Buffer.alloc(CHECKSUM);
    checksum.writeUInt32LE(sum);
    await file.write(checksum, bytes.length);
    await file.truncate(bytes.length + CHECKSUM);
    await file.datasync();
  } finally {
    await file.close();
  }
  await directory.rename(fresh, `${disk}.map`);
  await directory.sync();
}

/** The checkpoint that stands, or undefined where this disk has no overlay yet. */
export async function loadCheckpoint(directory: OverlayDirectory, disk: string): Promise<Checkpoint | undefined> {
  const name = `${disk}.map`;
  if (!(await directory.exists(name))) return undefined;
  const file = await directory.open(name);
  try {
    const bytes = Buffer.alloc(file.size);
    await file.read(bytes, 0);
    return decodeCheckpoint(bytes, name);
  } finally {
    await file.close();
  }
}

/** What is on the claim cannot have been left by any crash. */
export function corrupt(detail: string): DiskError {
  return new DiskError("OVERLAY_CORRUPT", detail, {
    hint: "The claim's content was altered from outside. Restore anew, or put a copy of the claim in its place.",
  });
}
