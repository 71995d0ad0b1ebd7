import type { Extent } from "../../disk/block-device.ts";
import type { Volume } from "./bounded-disk.ts";

const SUPERBLOCK = 1024;
const MAGIC = 0xef53;
const INCOMPAT = { filetype: 0x2, recover: 0x4, journalDevice: 0x8, metaGroups: 0x10, is64Bit: 0x80 } as const;

/** What is needed of an ext2, ext3 or ext4 superblock; all of it within sensible bounds. */
export interface ExtLayout {
  readonly blockBytes: number;
  readonly blocks: number;
  readonly inodes: number;
  readonly inodesPerGroup: number;
  readonly inodeBytes: number;
  readonly descriptorBytes: number;
  /** Where the group descriptors begin, and how many bytes of them lie there in one piece. */
  readonly descriptors: Extent;
  readonly journalInode: number;
  /** The file system was in use when it was backed up: its journal will be replayed. */
  readonly needsRecovery: boolean;
  readonly hasFileTypes: boolean;
}

/** Undefined where the volume holds no such file system. Follows the kernel's Documentation/filesystems/ext4. */
export async function readExtLayout(volume: Volume): Promise<ExtLayout | undefined> {
  const block = await volume.read(SUPERBLOCK, 1024);
  if (block === undefined || block.readUInt16LE(0x38) !== MAGIC) return undefined;
  const logBlock = block.readUInt32LE(0x18);
  const incompat = block.readUInt32LE(0x60);
  if (logBlock > 6 || (incompat & INCOMPAT.journalDevice) !== 0) return undefined;
  const blockBytes = 1024 << logBlock;
  const is64Bit = (incompat & INCOMPAT.is64Bit) !== 0;
  const blocks = block.readUInt32LE(0x4) + (is64Bit ? block.readUInt32LE(0x150) * 2 ** 32 : 0);
  const blocksPerGroup = block.readUInt32LE(0x20);
  const inodesPerGroup = block.readUInt32LE(0x28);
  const inodeBytes = block.readUInt32LE(0x4c) === 0 ? 128 : block.readUInt16LE(0x58);
  const descriptorBytes = is64Bit ? block.readUInt16LE(0xfe) : 32;
  const isSound =
    blocks > 0 &&
    blocksPerGroup > 0 &&
    inodesPerGroup > 0 &&
    inodeBytes >= 128 &&
    inodeBytes <= blockBytes &&
    descriptorBytes >= 32 &&
    descriptorBytes <= 1024;
  if (!isSound) return undefined;
  const firstBlock = block.readUInt32LE(0x14);
  const groups = Math.ceil((blocks - firstBlock) / blocksPerGroup);
  const perBlock = Math.floor(blockBytes / descriptorBytes);
  // With meta block groups, only the first descriptors lie together.
  const metaFrom = (incompat & INCOMPAT.metaGroups) === 0 ? Number.POSITIVE_INFINITY : block.readUInt32LE(0x104);
  const together = Math.max(0, Math.min(Math.ceil(groups / perBlock), metaFrom));
  return {
    blockBytes,
    blocks,
    inodes: block.readUInt32LE(0x0),
    inodesPerGroup,
    inodeBytes,
    descriptorBytes,
    descriptors: { offset: (firstBlock + 1) * blockBytes, length: together * blockBytes },
    journalInode: block.readUInt32LE(0xe0),
    needsRecovery: (incompat & INCOMPAT.recover) !== 0,
    hasFileTypes: (incompat & INCOMPAT.filetype) !== 0,
  };
}
