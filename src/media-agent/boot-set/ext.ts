import type { Extent } from "../../disk/block-device.ts";
import type { Volume } from "./bounded-disk.ts";
import { readDirectory } from "./ext-directory.ts";
import { type Inode, inodeExtents, readInode } from "./ext-inode.ts";
import { readExtLayout } from "./ext-layout.ts";
import { type FileTree, findFiles } from "./file-tree.ts";
import { LINUX_LOOKS } from "./linux-looks.ts";

const MIB = 1024 * 1024;
const ROOT_INODE = 2;
/** Of the group descriptors: those of 8 TiB with 4 KiB blocks. */
const DESCRIPTORS_LIMIT = 4 * MIB;
const JOURNAL_LIMIT = 64 * MIB;

/** An ext2, ext3 or ext4 file system: its tables, what a Linux boot looks for, and its journal where it will be replayed. */
export async function* extBootSet(volume: Volume): AsyncGenerator<Extent> {
  const layout = await readExtLayout(volume);
  if (layout === undefined) return;
  yield { offset: 0, length: Math.max(4096, layout.blockBytes) };
  yield { ...layout.descriptors, length: Math.min(layout.descriptors.length, DESCRIPTORS_LIMIT) };
  const tree: FileTree<Inode> = {
    root: ROOT_INODE,
    node: (number) => readInode(volume, layout, number),
    directory: (inode) => readDirectory(volume, layout, inode),
    extents: (inode, limit) => inodeExtents(volume, layout, inode, limit),
  };
  yield* findFiles(tree, LINUX_LOOKS);
  const journal = await readInode(volume, layout, layout.journalInode);
  if (journal === undefined) return;
  yield journal.place;
  yield* inodeExtents(volume, layout, journal, layout.needsRecovery ? JOURNAL_LIMIT : layout.blockBytes);
}
