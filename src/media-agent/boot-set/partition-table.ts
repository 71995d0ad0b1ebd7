import type { Extent } from "../../disk/block-device.ts";
import type { Volume } from "./bounded-disk.ts";

const SECTOR = 512;
const PARTITIONS = 64;
const GPT_ENTRIES = 256;
const EXTENDED = new Set([0x05, 0x0f, 0x85]);
const PROTECTIVE = 0xee;

/** Partitions as bytes of the disk, in the table's order. A disk without a table has none. */
export async function partitions(disk: Volume): Promise<Extent[]> {
  const first = await disk.read(0, SECTOR);
  if (first === undefined || first.readUInt16LE(510) !== 0xaa55) return [];
  const entries = mbrEntries(first, 0);
  const found = entries.some(({ type }) => type === PROTECTIVE)
    ? await guidPartitions(disk)
    : await mbrPartitions(disk, entries);
  return found
    .filter(({ offset, length }) => offset > 0 && length > 0 && offset < disk.size)
    .map(({ offset, length }) => ({ offset, length: Math.min(length, disk.size - offset) }))
    .slice(0, PARTITIONS);
}

interface MbrEntry extends Extent {
  readonly type: number;
}

/** The four entries of a boot record; `base` is added to where they begin. */
function mbrEntries(sector: Buffer, base: number): MbrEntry[] {
  const entries: MbrEntry[] = [];
  for (let at = 446; at < 510; at += 16) {
    const length = sector.readUInt32LE(at + 12) * SECTOR;
    const type = sector.readUInt8(at + 4);
    if (type === 0 || length === 0) continue;
    entries.push({ type, offset: base + sector.readUInt32LE(at + 8) * SECTOR, length });
  }
  return entries;
}

async function mbrPartitions(disk: Volume, entries: readonly MbrEntry[]): Promise<Extent[]> {
  const found: Extent[] = entries.filter(({ type }) => !EXTENDED.has(type));
  const extended = entries.find(({ type }) => EXTENDED.has(type));
  // Logical partitions: a chain of boot records, each with one partition and the next link.
  let link: number | undefined = extended?.offset;
  while (extended !== undefined && link !== undefined && found.length < PARTITIONS) {
    const sector: Buffer | undefined = await disk.read(link, SECTOR);
    if (sector === undefined || sector.readUInt16LE(510) !== 0xaa55) break;
    const logical = mbrEntries(sector, link).find(({ type }) => !EXTENDED.has(type));
    if (logical !== undefined) found.push(logical);
    const next = mbrEntries(sector, extended.offset).find(({ type }) => EXTENDED.has(type))?.offset;
    link = next !== undefined && next > link ? next : undefined;
  }
  return found;
}

/** GPT (UEFI specification, 5.3), for either size of sectors. */
async function guidPartitions(disk: Volume): Promise<Extent[]> {
  for (const sector of [512, 4096]) {
    const header = await disk.read(sector, SECTOR);
    if (header?.toString("latin1", 0, 8) !== "EFI PART") continue;
    const table = Number(header.readBigUInt64LE(72)) * sector;
    const count = Math.min(header.readUInt32LE(80), GPT_ENTRIES);
    const size = header.readUInt32LE(84);
    if (size < 128 || size > 4096) return [];
    const entries = await disk.read(table, count * size);
    const found: Extent[] = [];
    for (let at = 0; entries !== undefined && at < entries.length; at += size) {
      if (entries.subarray(at, at + 16).every((byte) => byte === 0)) continue;
      const start = Number(entries.readBigUInt64LE(at + 32)) * sector;
      const end = (Number(entries.readBigUInt64LE(at + 40)) + 1) * sector;
      if (Number.isSafeInteger(start) && Number.isSafeInteger(end)) found.push({ offset: start, length: end - start });
    }
    return found;
  }
  return [];
}
