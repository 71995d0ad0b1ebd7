import type { Extent } from "../../disk/block-device.ts";
import type { Volume } from "./bounded-disk.ts";
import { type FileTree, findFiles } from "./file-tree.ts";
import { LINUX_LOOKS } from "./linux-looks.ts";
import { readXfsDirectory } from "./xfs-directory.ts";
import { readXfsInode, type XfsInode, xfsExtents } from "./xfs-inode.ts";
import { readXfsLayout, type XfsLayout } from "./xfs-layout.ts";

const MIB = 1024 * 1024;
const GROUPS_LIMIT = 1024;
/** Groups whose inode tree is looked into. */
const TREES_LIMIT = 64;
/** Headers and, of a file system that has not grown, the roots of the free space and inode trees. */
const GROUP_HEAD = 32 * 1024;
const LOG_LIMIT = 64 * MIB;
const INODES_PER_CHUNK = 64;

/**
 * An XFS file system: its allocation groups' heads, the inodes around the root, what a Linux boot looks for, the inode trees, and its
 * log. Mounting looks for the log's end in all of it.
 */
export async function* xfsBootSet(volume: Volume): AsyncGenerator<Extent> {
  const layout = await readXfsLayout(volume);
  if (layout === undefined) return;
  yield { offset: 0, length: GROUP_HEAD };
  const root = await readXfsInode(volume, layout, layout.rootInode);
  if (root !== undefined) yield { offset: root.place.offset, length: INODES_PER_CHUNK * layout.inodeBytes };
  const tree: FileTree<XfsInode> = {
    root: layout.rootInode,
    node: (number) => readXfsInode(volume, layout, number),
    directory: (inode) => readXfsDirectory(volume, layout, inode),
    extents: (inode, limit) => xfsExtents(volume, layout, inode, limit),
  };
  const groupBytes = layout.groupBlocks * layout.blockBytes;
  for (let group = 1; group < Math.min(layout.groups, GROUPS_LIMIT); group++) {
    yield { offset: group * groupBytes, length: GROUP_HEAD };
  }
  yield* findFiles(tree, LINUX_LOOKS);
  if (layout.log !== undefined) yield { offset: layout.log.offset, length: Math.min(layout.log.length, LOG_LIMIT) };
  for (let group = 0; group < Math.min(layout.groups, TREES_LIMIT); group++) {
    yield* inodeTree(volume, layout, group);
  }
}

/** The root of a group's inode tree and the blocks that it names. */
async function* inodeTree(volume: Volume, layout: XfsLayout, group: number): AsyncGenerator<Extent> {
  const { blockBytes, groupBlocks, sectorBytes, isVersion5 } = layout;
  const base = group * groupBlocks * blockBytes;
  const place = (block: number): Extent => ({ offset: base + block * blockBytes, length: blockBytes });
  const header = await volume.read(base + 2 * sectorBytes, 32);
  if (header === undefined || header.toString("latin1", 0, 4) !== "XAGI") return;
  const root = header.readUInt32BE(20);
  if (root === 0 || root >= groupBlocks) return;
  yield place(root);
  const node = await volume.read(place(root).offset, blockBytes);
  if (node === undefined || node.toString("latin1", 0, 4) !== (isVersion5 ? "IAB3" : "IABT")) return;
  if (node.readUInt16BE(4) === 0) return;
  const head = isVersion5 ? 56 : 16;
  const most = Math.floor((blockBytes - head) / 8);
  for (let index = 0; index < Math.min(node.readUInt16BE(6), most); index++) {
    const child = node.readUInt32BE(head + most * 4 + index * 4);
    if (child > 0 && child < groupBlocks) yield place(child);
  }
}
