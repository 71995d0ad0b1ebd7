import type { Extent } from "../../disk/block-device.ts";
import type { Volume } from "./bounded-disk.ts";

const SB_LENGTH = 512;
const INCOMPAT_FTYPE = 1;
const INCOMPAT_BIG_COUNTERS = 0x20;
const FEATURES2_FTYPE = 0x200;

/** What is needed of an XFS superblock; all of it within sensible bounds. */
export interface XfsLayout {
  readonly blockBytes: number;
  readonly blocks: number;
  readonly groupBlocks: number;
  readonly groups: number;
  readonly inodeBytes: number;
  readonly sectorBytes: number;
  /** Powers of two: blocks of a group's numbers, inodes of a block. */
  readonly groupBlocksLog: number;
  readonly inodesPerBlockLog: number;
  readonly directoryBytes: number;
  readonly rootInode: number;
  /** Version 5 of the format: longer headers, with checksums. */
  readonly isVersion5: boolean;
  readonly hasFileTypes: boolean;
  readonly hasBigCounters: boolean;
  /** Undefined where the log lies on another device. */
  readonly log: Extent | undefined;
}

/** Undefined where the volume holds no such file system. Follows "XFS Algorithms & Data Structures", 3rd edition. */
export async function readXfsLayout(volume: Volume): Promise<XfsLayout | undefined> {
  const block = await volume.read(0, SB_LENGTH);
  if (block === undefined || block.toString("latin1", 0, 4) !== "XFSB") return undefined;
  const blockBytes = block.readUInt32BE(4);
  const isVersion5 = (block.readUInt16BE(100) & 0xf) === 5;
  const incompat = isVersion5 ? block.readUInt32BE(216) : 0;
  const layout = {
    blockBytes,
    blocks: Number(block.readBigUInt64BE(8)),
    groupBlocks: block.readUInt32BE(84),
    groups: block.readUInt32BE(88),
    inodeBytes: block.readUInt16BE(104),
    sectorBytes: block.readUInt16BE(102),
    groupBlocksLog: block.readUInt8(124),
    inodesPerBlockLog: block.readUInt8(123),
    directoryBytes: blockBytes << block.readUInt8(192),
    rootInode: Number(block.readBigUInt64BE(56)),
    isVersion5,
    hasFileTypes: isVersion5 ? (incompat & INCOMPAT_FTYPE) !== 0 : (block.readUInt32BE(200) & FEATURES2_FTYPE) !== 0,
    hasBigCounters: (incompat & INCOMPAT_BIG_COUNTERS) !== 0,
    log: undefined,
  };
  const isSound =
    isPowerOfTwo(blockBytes, 512, 65_536) &&
    isPowerOfTwo(layout.sectorBytes, 512, 32_768) &&
    isPowerOfTwo(layout.inodeBytes, 256, 2048) &&
    layout.directoryBytes >= blockBytes &&
    layout.directoryBytes <= 65_536 &&
    layout.groupBlocks > 0 &&
    layout.groups > 0 &&
    layout.groupBlocksLog <= 31 &&
    layout.groupBlocks <= 2 ** layout.groupBlocksLog &&
    layout.inodesPerBlockLog <= 8 &&
    layout.inodeBytes << layout.inodesPerBlockLog === blockBytes;
  if (!isSound) return undefined;
  const start = Number(block.readBigUInt64BE(48));
  const offset = start === 0 ? undefined : blockOffset(layout, start);
  if (offset === undefined) return layout;
  return { ...layout, log: { offset, length: block.readUInt32BE(96) * blockBytes } };
}

/** Where a block lies: its number holds the group's in its high bits. Undefined where there is no such group. */
export function blockOffset(layout: XfsLayout, number: number): number | undefined {
  const perGroup = 2 ** layout.groupBlocksLog;
  const group = Math.floor(number / perGroup);
  const within = number % perGroup;
  if (!Number.isSafeInteger(number) || group >= layout.groups || within >= layout.groupBlocks) return undefined;
  return (group * layout.groupBlocks + within) * layout.blockBytes;
}

function isPowerOfTwo(value: number, smallest: number, largest: number): boolean {
  return value >= smallest && value <= largest && (value & (value - 1)) === 0;
}
