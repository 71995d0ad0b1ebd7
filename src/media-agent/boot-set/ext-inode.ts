import type { Extent } from "../../disk/block-device.ts";
import type { Volume } from "./bounded-disk.ts";
import type { ExtLayout } from "./ext-layout.ts";
import type { TreeNode } from "./file-tree.ts";

const EXTENTS_FLAG = 0x80000;
const INLINE_FLAG = 0x10000000;
const EXTENT_MAGIC = 0xf30a;
const DEPTH_LIMIT = 5;
/** An extent longer than that is allocated but not written. */
const WRITTEN_LIMIT = 32_768;
const DIRECT_BLOCKS = 12;

export interface Inode extends TreeNode {
  /** Its map of blocks, 60 bytes. */
  readonly map: Buffer;
  readonly flags: number;
}

/** Undefined where there is no such inode, or it lies nowhere. */
export async function readInode(volume: Volume, layout: ExtLayout, number: number): Promise<Inode | undefined> {
  if (number < 1 || number > layout.inodes) return undefined;
  const group = Math.floor((number - 1) / layout.inodesPerGroup);
  const at = group * layout.descriptorBytes;
  if (at + layout.descriptorBytes > layout.descriptors.length) return undefined;
  const descriptor = await volume.read(layout.descriptors.offset + at, layout.descriptorBytes);
  if (descriptor === undefined) return undefined;
  const high = layout.descriptorBytes >= 64 ? descriptor.readUInt32LE(0x28) : 0;
  const table = (descriptor.readUInt32LE(0x8) + high * 2 ** 32) * layout.blockBytes;
  const offset = table + ((number - 1) % layout.inodesPerGroup) * layout.inodeBytes;
  const bytes = await volume.read(offset, 128);
  if (bytes === undefined) return undefined;
  const mode = bytes.readUInt16LE(0) & 0xf000;
  return {
    kind: mode === 0x4000 ? "directory" : mode === 0x8000 ? "file" : "other",
    size: bytes.readUInt32LE(0x4) + bytes.readUInt32LE(0x6c) * 2 ** 32,
    place: { offset: Math.floor(offset / layout.blockBytes) * layout.blockBytes, length: layout.blockBytes },
    map: bytes.subarray(0x28, 0x64),
    flags: bytes.readUInt32LE(0x20),
  };
}

/** Where an inode's bytes lie, in the file's order, at most `limit` bytes of them; the blocks of its map come before them. */
export async function* inodeExtents(
  volume: Volume,
  layout: ExtLayout,
  inode: Inode,
  limit: number,
): AsyncGenerator<Extent & { readonly isMap: boolean }> {
  if ((inode.flags & INLINE_FLAG) !== 0) return;
  let left = Math.min(limit, Math.ceil(inode.size / layout.blockBytes) * layout.blockBytes);
  const blocks =
    (inode.flags & EXTENTS_FLAG) === 0
      ? mappedBlocks(volume, layout, inode.map)
      : treeBlocks(volume, layout, inode.map, DEPTH_LIMIT);
  for await (const { first, count, isMap } of blocks) {
    if (left <= 0) return;
    const length = Math.min(count * layout.blockBytes, isMap ? layout.blockBytes : left);
    const offset = first * layout.blockBytes;
    if (first <= 0 || first + count > layout.blocks || offset + length > volume.size) continue;
    if (!isMap) left -= length;
    yield { offset, length, isMap };
  }
}

interface Blocks {
  readonly first: number;
  readonly count: number;
  readonly isMap: boolean;
}

/** A node of an extent tree. @param depth the deepest it may say it is: children lie less deep, so there is an end. */
async function* treeBlocks(volume: Volume, layout: ExtLayout, node: Buffer, depth: number): AsyncGenerator<Blocks> {
  if (node.readUInt16LE(0) !== EXTENT_MAGIC) return;
  const entries = Math.min(node.readUInt16LE(2), Math.floor((node.length - 12) / 12));
  const own = node.readUInt16LE(6);
  if (own > depth) return;
  for (let index = 0; index < entries; index++) {
    const at = 12 + index * 12;
    if (own === 0) {
      const count = node.readUInt16LE(at + 4);
      const first = node.readUInt16LE(at + 6) * 2 ** 32 + node.readUInt32LE(at + 8);
      if (count > 0 && count <= WRITTEN_LIMIT) yield { first, count, isMap: false };
      continue;
    }
    const block = node.readUInt32LE(at + 4) + node.readUInt16LE(at + 8) * 2 ** 32;
    const child = await volume.read(block * layout.blockBytes, layout.blockBytes);
    if (child === undefined) continue;
    yield { first: block, count: 1, isMap: true };
    yield* treeBlocks(volume, layout, child, own - 1);
  }
}

/** The block map of ext2 and ext3: twelve blocks, then lists of blocks, then lists of lists. */
async function* mappedBlocks(volume: Volume, layout: ExtLayout, map: Buffer): AsyncGenerator<Blocks> {
  for (let index = 0; index < DIRECT_BLOCKS; index++) {
    const first = map.readUInt32LE(index * 4);
    if (first !== 0) yield { first, count: 1, isMap: false };
  }
  for (const depth of [1, 2, 3]) yield* listedBlocks(volume, layout, map.readUInt32LE((11 + depth) * 4), depth);
}

async function* listedBlocks(volume: Volume, layout: ExtLayout, block: number, depth: number): AsyncGenerator<Blocks> {
  const list = block === 0 ? undefined : await volume.read(block * layout.blockBytes, layout.blockBytes);
  if (list === undefined) return;
  yield { first: block, count: 1, isMap: true };
  for (let at = 0; at < list.length; at += 4) {
    const first = list.readUInt32LE(at);
    if (first === 0) continue;
    if (depth === 1) yield { first, count: 1, isMap: false };
    else yield* listedBlocks(volume, layout, first, depth - 1);
  }
}
