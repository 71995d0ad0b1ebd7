import type { Extent } from "../../disk/block-device.ts";
import type { Volume } from "./bounded-disk.ts";

export const SUPERBLOCK: Extent = { offset: 64 * 1024, length: 4096 };
const MAGIC = "_BHRfS_M";
const SYSTEM_CHUNKS = 811;
const SYSTEM_CHUNKS_LIMIT = 2048;
const KEY = 17;
const CHUNK_TYPE = 228;
/** RAID 0, 10, 5 and 6: more than one device, in stripes. */
const STRIPED = 0x8n | 0x40n | 0x80n | 0x100n;
const CHUNKS_LIMIT = 65_536;
const STRIPES_LIMIT = 16;

/** A run of the file system's own addresses, and where it lies on this device. */
interface Chunk {
  readonly logical: number;
  readonly length: number;
  readonly physical: number;
}

/** What is needed of a btrfs superblock. Addresses are the file system's own. */
export interface BtrfsLayout {
  readonly nodeBytes: number;
  readonly rootTree: number;
  readonly chunkTree: number;
  readonly device: number;
  readonly chunks: ChunkMap;
}

/** Undefined where the volume holds no such file system. Follows the format as the kernel's uapi/linux/btrfs_tree.h lays it down. */
export async function readBtrfsLayout(volume: Volume): Promise<BtrfsLayout | undefined> {
  const block = await volume.read(SUPERBLOCK.offset, SUPERBLOCK.length);
  if (block === undefined || block.toString("latin1", 64, 72) !== MAGIC) return undefined;
  const nodeBytes = block.readUInt32LE(148);
  const isSound = nodeBytes >= 4096 && nodeBytes <= 65_536 && (nodeBytes & (nodeBytes - 1)) === 0;
  if (!isSound) return undefined;
  const device = Number(block.readBigUInt64LE(201));
  const chunks = new ChunkMap();
  const end = SYSTEM_CHUNKS + Math.min(SYSTEM_CHUNKS_LIMIT, block.readUInt32LE(160));
  for (let at = SYSTEM_CHUNKS; at + KEY + 48 <= end; ) {
    if (block.readUInt8(at + 8) !== CHUNK_TYPE) break;
    const item = block.subarray(at + KEY, end);
    chunks.add(Number(block.readBigUInt64LE(at + 9)), item, device);
    at += KEY + 48 + item.readUInt16LE(44) * 32;
  }
  return {
    nodeBytes,
    rootTree: Number(block.readBigUInt64LE(80)),
    chunkTree: Number(block.readBigUInt64LE(88)),
    device,
    chunks,
  };
}

/** From the file system's addresses to the device's. */
export class ChunkMap {
  readonly #chunks = new Map<number, Chunk>();
  #ordered: Chunk[] | undefined;

  /** Adds a chunk item, where it lies on this device in one piece. */
  add(logical: number, item: Buffer, device: number): void {
    if (item.length < 48 || this.#chunks.size >= CHUNKS_LIMIT) return;
    const length = Number(item.readBigUInt64LE(0));
    if ((item.readBigUInt64LE(24) & STRIPED) !== 0n || !Number.isSafeInteger(logical + length) || length === 0) return;
    const stripes = Math.min(item.readUInt16LE(44), STRIPES_LIMIT);
    for (let at = 48; at + 32 <= item.length && at < 48 + stripes * 32; at += 32) {
      if (Number(item.readBigUInt64LE(at)) !== device) continue;
      this.#chunks.set(logical, { logical, length, physical: Number(item.readBigUInt64LE(at + 8)) });
      this.#ordered = undefined;
      return;
    }
  }

  /** Where a run lies on the device, if all of it does in one piece. */
  place(logical: number, length: number): Extent | undefined {
    this.#ordered ??= [...this.#chunks.values()].sort((a, b) => a.logical - b.logical);
    let low = 0;
    let high = this.#ordered.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((this.#ordered[middle]?.logical ?? 0) <= logical) low = middle;
      else high = middle - 1;
    }
    const chunk = this.#ordered[low];
    if (chunk === undefined || logical < chunk.logical || logical + length > chunk.logical + chunk.length)
      return undefined;
    return { offset: chunk.physical + (logical - chunk.logical), length };
  }
}
