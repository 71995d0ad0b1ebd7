import type { Extent } from "../../disk/block-device.ts";
import type { Volume } from "./bounded-disk.ts";

const MIB = 1024 * 1024;
const GROUPS_LIMIT = 1024;
/** Headers and the roots of the free space and inode trees. */
const GROUP_HEAD = 32 * 1024;
const LOG_LIMIT = 64 * MIB;
const INODES_PER_CHUNK = 64;

/**
 * An XFS file system: the heads of its allocation groups, its log, and the chunk of inodes that holds the root directory's.
 * Follows "XFS Algorithms & Data Structures", 3rd edition.
 */
export async function* xfsBootSet(volume: Volume): AsyncGenerator<Extent> {
  const block = await volume.read(0, 512);
  if (block === undefined || block.toString("latin1", 0, 4) !== "XFSB") return;
  const blockBytes = block.readUInt32BE(4);
  const groupBlocks = block.readUInt32BE(84);
  const groups = Math.min(block.readUInt32BE(88), GROUPS_LIMIT);
  const inodeBytes = block.readUInt16BE(104);
  const [inodesPerBlockLog = 0, groupBlocksLog = 0] = block.subarray(123, 125);
  const isSound = blockBytes >= 512 && blockBytes <= 65_536 && groupBlocks > 0 && inodeBytes >= 256;
  if (!isSound || inodesPerBlockLog > 8 || groupBlocksLog > 31) return;

  /** A file system block's number holds the group's in its high bits. */
  const blockOffset = (number: bigint): number => {
    const group = Number(number >> BigInt(groupBlocksLog));
    const within = Number(number & ((1n << BigInt(groupBlocksLog)) - 1n));
    return (group * groupBlocks + within) * blockBytes;
  };
  yield { offset: 0, length: GROUP_HEAD };
  const rootInode = block.readBigUInt64BE(56);
  const chunk = blockOffset(rootInode >> BigInt(inodesPerBlockLog));
  yield { offset: chunk, length: INODES_PER_CHUNK * inodeBytes };
  for (let group = 1; group < groups; group++) {
    yield { offset: group * groupBlocks * blockBytes, length: GROUP_HEAD };
  }
  const logStart = block.readBigUInt64BE(48);
  const logBytes = block.readUInt32BE(96) * blockBytes;
  if (logStart !== 0n) yield { offset: blockOffset(logStart), length: Math.min(logBytes, LOG_LIMIT) };
}
