import type { Extent } from "../../disk/block-device.ts";
import type { Volume } from "./bounded-disk.ts";
import type { TreeNode } from "./file-tree.ts";
import { blockOffset, type XfsLayout } from "./xfs-layout.ts";

const CORE = 100;
const CORE_VERSION_3 = 176;
const FORMAT = { local: 1, extents: 2, tree: 3 } as const;
const RECORD = 16;
const DEPTH_LIMIT = 8;

export interface XfsInode extends TreeNode {
  readonly format: number;
  readonly extentCount: number;
  /** Where the bytes of the inode's own data fork are. */
  readonly fork: Buffer;
}

/** A piece of a file: `at` is where it lies in the file, undefined for a block of the tree that says so. Bytes. */
export interface FileExtent extends Extent {
  readonly at: number | undefined;
}

/** Undefined where there is no such inode. */
export async function readXfsInode(volume: Volume, layout: XfsLayout, number: number): Promise<XfsInode | undefined> {
  const perBlock = 2 ** layout.inodesPerBlockLog;
  const block = blockOffset(layout, Math.floor(number / perBlock));
  if (block === undefined) return undefined;
  const bytes = await volume.read(block + (number % perBlock) * layout.inodeBytes, layout.inodeBytes);
  if (bytes === undefined || bytes.toString("latin1", 0, 2) !== "IN") return undefined;
  const type = bytes.readUInt16BE(2) & 0xf000;
  const core = bytes.readUInt8(4) >= 3 ? CORE_VERSION_3 : CORE;
  const attributes = core + bytes.readUInt8(82) * 8;
  return {
    kind: type === 0x4000 ? "directory" : type === 0x8000 ? "file" : "other",
    size: Number(bytes.readBigUInt64BE(56)),
    place: { offset: block, length: layout.blockBytes },
    format: bytes.readUInt8(5),
    extentCount: layout.hasBigCounters ? Number(bytes.readBigUInt64BE(24)) : bytes.readUInt32BE(76),
    fork: bytes.subarray(core, attributes > core ? Math.min(attributes, bytes.length) : bytes.length),
  };
}

export function isLocal(inode: XfsInode): boolean {
  return inode.format === FORMAT.local;
}

/** Where an inode's bytes lie, at most `limit` of them, in order; each block of its tree comes before what it says. */
export async function* xfsExtents(
  volume: Volume,
  layout: XfsLayout,
  inode: XfsInode,
  limit: number,
): AsyncGenerator<FileExtent> {
  let left = limit;
  const pieces =
    inode.format === FORMAT.extents
      ? records(layout, inode.fork, 0, inode.extentCount)
      : inode.format === FORMAT.tree
        ? treeExtents(volume, layout, inode.fork)
        : [];
  for await (const piece of pieces) {
    if (left <= 0) return;
    const length = Math.min(piece.length, left, Math.max(0, volume.size - piece.offset));
    if (length <= 0) continue;
    if (piece.at !== undefined) left -= length;
    yield { ...piece, length };
  }
}

/** Extent records: 1 bit unwritten, 54 bits place in the file, 52 bits block, 21 bits count. */
function* records(layout: XfsLayout, bytes: Buffer, start: number, count: number): Generator<FileExtent> {
  const end = Math.min(bytes.length, start + count * RECORD);
  for (let at = start; at + RECORD <= end; at += RECORD) {
    const high = bytes.readBigUInt64BE(at);
    const low = bytes.readBigUInt64BE(at + 8);
    const block = Number(((high & 0x1ffn) << 43n) | (low >> 21n));
    const offset = blockOffset(layout, block);
    const isUnwritten = high >> 63n === 1n;
    const length = Number(low & 0x1fffffn) * layout.blockBytes;
    if (offset === undefined || isUnwritten || length === 0) continue;
    yield { offset, length, at: Number((high >> 9n) & ((1n << 54n) - 1n)) * layout.blockBytes };
  }
}

/** A tree whose root lies in the inode: level, number of entries, keys, and from half way on the blocks of the next level. */
async function* treeExtents(volume: Volume, layout: XfsLayout, root: Buffer): AsyncGenerator<FileExtent> {
  if (root.length < 4) return;
  const level = root.readUInt16BE(0);
  const most = Math.floor((root.length - 4) / RECORD);
  const count = Math.min(root.readUInt16BE(2), most);
  if (level < 1 || level > DEPTH_LIMIT) return;
  yield* children(volume, layout, root, 4 + most * 8, count, level - 1);
}

async function* children(
  volume: Volume,
  layout: XfsLayout,
  node: Buffer,
  pointers: number,
  count: number,
  level: number,
): AsyncGenerator<FileExtent> {
  const header = layout.isVersion5 ? 72 : 24;
  const magic = layout.isVersion5 ? "BMA3" : "BMAP";
  const most = Math.floor((layout.blockBytes - header) / RECORD);
  for (let index = 0; index < count; index++) {
    const offset = blockOffset(layout, Number(node.readBigUInt64BE(pointers + index * 8)));
    const block = offset === undefined ? undefined : await volume.read(offset, layout.blockBytes);
    if (offset === undefined || block === undefined || block.toString("latin1", 0, 4) !== magic) continue;
    // Levels count down, so there is an end.
    if (block.readUInt16BE(4) !== level) continue;
    yield { offset, length: layout.blockBytes, at: undefined };
    const entries = Math.min(block.readUInt16BE(6), most);
    if (level === 0) yield* records(layout, block, header, entries);
    else yield* children(volume, layout, block, header + most * 8, entries, level - 1);
  }
}
