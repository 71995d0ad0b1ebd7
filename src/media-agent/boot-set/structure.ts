import type { Clock } from "../../base/clock.ts";
import type { BlockSource, Extent } from "../../disk/block-device.ts";
import { BoundedDisk, BudgetSpentError, partitionOf, type Volume } from "./bounded-disk.ts";
import { extBootSet } from "./ext.ts";
import { fatBootSet } from "./fat.ts";
import { partitions } from "./partition-table.ts";
import { xfsBootSet } from "./xfs.ts";

const MIB = 1024 * 1024;
/** The beginning of a disk is staged whatever is on it. */
const HEAD_BYTES = 64 * MIB;
/** Of a volume whose file system is not known. */
const UNKNOWN_HEAD_BYTES = MIB;
const FILE_SYSTEMS = [fatBootSet, extBootSet, xfsBootSet];
/** Backup partition table. */
const TAIL_BYTES = 64 * 1024;
const EXTENTS_LIMIT = 200_000;
const BYTES_LIMIT = 384 * MIB;

/**
 * What a boot is likely to read, from the disk's own structure: in the order of importance, within the disk, overlaps
 * possible. Bounded in reads, time and bytes, whatever the disk claims. What was found until a bound, or until a part of the
 * disk that cannot be read, counts.
 */
export async function structureExtents(source: BlockSource, clock: Clock): Promise<Extent[]> {
  const found: Extent[] = [];
  let bytes = 0;
  const add = ({ offset, length }: Extent): void => {
    const piece = { offset, length: Math.min(length, source.size - offset, BYTES_LIMIT - bytes) };
    if (!Number.isSafeInteger(offset) || offset < 0 || !(piece.length > 0)) return;
    if (found.length === EXTENTS_LIMIT) throw new BudgetSpentError("too many extents");
    bytes += piece.length;
    found.push(piece);
  };
  add({ offset: 0, length: MIB });
  await addStructure(new BoundedDisk(source, clock), add).catch(() => undefined);
  bytes = Math.min(bytes, BYTES_LIMIT - HEAD_BYTES);
  if (found.length < EXTENTS_LIMIT) add({ offset: 0, length: HEAD_BYTES });
  return found;
}

async function addStructure(disk: BoundedDisk, add: (extent: Extent) => void): Promise<void> {
  const parts = await partitions(disk);
  if (parts.length > 0) add({ offset: Math.max(0, disk.size - TAIL_BYTES), length: TAIL_BYTES });
  const volumes = parts.length > 0 ? parts : [{ offset: 0, length: disk.size }];
  for (const part of volumes) {
    const volume: Volume = partitionOf(disk, part);
    add({ offset: part.offset, length: Math.min(UNKNOWN_HEAD_BYTES, part.length) });
    for (const bootSet of FILE_SYSTEMS) {
      for await (const extent of bootSet(volume)) {
        const length = Math.min(extent.length, part.length - extent.offset);
        if (extent.offset >= 0) add({ offset: part.offset + extent.offset, length });
      }
    }
  }
}
