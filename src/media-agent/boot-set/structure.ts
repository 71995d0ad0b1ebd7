import { setImmediate as nextTurn } from "node:timers/promises";
import type { Clock } from "../../base/clock.ts";
import type { BlockSource, Extent } from "../../disk/block-device.ts";
import { BoundedDisk, BudgetSpentError, partOf, type Volume } from "./bounded-disk.ts";
import { btrfsBootSet } from "./btrfs.ts";
import { extBootSet } from "./ext.ts";
import { fatBootSet } from "./fat.ts";
import { readLvm } from "./lvm.ts";
import { ntfsBootSet } from "./ntfs.ts";
import { partitions } from "./partition-table.ts";
import { xfsBootSet } from "./xfs.ts";

const MIB = 1024 * 1024;
/** The beginning of a disk is staged whatever is on it. */
const HEAD_BYTES = 64 * MIB;
/** Of a volume whose file system is not known. */
const UNKNOWN_HEAD_BYTES = MIB;
const FILE_SYSTEMS = [fatBootSet, extBootSet, xfsBootSet, btrfsBootSet, ntfsBootSet];
/** Backup partition table. */
const TAIL_BYTES = 64 * 1024;
const EXTENTS_LIMIT = 200_000;
const BYTES_LIMIT = 384 * MIB;
/** Extents after which others get their turn: a volume may name hundreds of thousands without a read between. */
const EXTENTS_AT_ONCE = 256;

/**
 * What a boot is likely to read, from the disk's own structure: in the order of importance, within the disk, overlaps
 * possible. Bounded in reads, time and bytes, whatever the disk claims. What was found until a bound, or in a volume
 * until a part of it that cannot be read, counts.
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
  const volumes = parts.length > 0 ? parts.map((part) => partOf(disk, part)) : [disk];
  for (const volume of volumes) {
    await addVolume(volume, add).catch((error: unknown) => {
      // What cannot be read there says nothing of the next one.
      if (error instanceof BudgetSpentError) throw error;
    });
  }
}

async function addVolume(volume: Volume, add: (extent: Extent) => void): Promise<void> {
  const lvm = await readLvm(volume);
  if (lvm === undefined) {
    await addFileSystem(volume, add);
    return;
  }
  for (const extent of lvm.metadata) {
    for (const place of volume.places(extent)) add(place);
  }
  // A logical volume is no physical one: what claims to be both ends here.
  for (const logical of lvm.volumes) await addFileSystem(logical, add);
}

async function addFileSystem(volume: Volume, add: (extent: Extent) => void): Promise<void> {
  let count = 0;
  for (const place of volume.places({ offset: 0, length: Math.min(UNKNOWN_HEAD_BYTES, volume.size) })) add(place);
  for (const bootSet of FILE_SYSTEMS) {
    for await (const extent of bootSet(volume)) {
      for (const place of volume.places(extent)) {
        if (++count % EXTENTS_AT_ONCE === 0) await nextTurn();
        add(place);
      }
    }
  }
}
