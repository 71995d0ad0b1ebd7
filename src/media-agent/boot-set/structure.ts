import type { Clock } from "../../base/clock.ts";
import type { BlockSource, Extent } from "../../disk/block-device.ts";
import { BoundedDisk } from "./bounded-disk.ts";

const MIB = 1024 * 1024;
/** The beginning of a disk is staged, whatever is on it: boot loaders, and the first file system's tables. */
const HEAD_BYTES = 64 * MIB;

/** What a boot is likely to read, from the disk's own structure; in the order of importance, overlaps possible. */
export async function structureExtents(source: BlockSource, clock: Clock): Promise<Extent[]> {
  const disk = new BoundedDisk(source, clock);
  const extents: Extent[] = [{ offset: 0, length: Math.min(MIB, disk.size) }];
  extents.push({ offset: 0, length: Math.min(HEAD_BYTES, disk.size) });
  return extents;
}
