import type { Volume } from "./bounded-disk.ts";

const SECTOR = 512;

/** What is needed of an NTFS boot sector; all of it within sensible bounds. Bytes. */
export interface NtfsLayout {
  readonly size: number;
  readonly clusterBytes: number;
  readonly recordBytes: number;
  /** Where the master file table and the copy of its first records begin. */
  readonly table: number;
  readonly mirror: number;
}

/** Undefined where the volume holds no such file system. */
export async function readNtfsLayout(volume: Volume): Promise<NtfsLayout | undefined> {
  const boot = await volume.read(0, SECTOR);
  if (boot === undefined || boot.toString("latin1", 3, 11) !== "NTFS    ") return undefined;
  const sectorBytes = boot.readUInt16LE(11);
  const clusterBytes = sectorBytes * count(boot.readUInt8(13));
  const isSound = isPowerOfTwo(sectorBytes, 256, 4096) && isPowerOfTwo(clusterBytes, sectorBytes, 2 * 1024 * 1024);
  if (!isSound) return undefined;
  const perRecord = boot.readInt8(64);
  const recordBytes = perRecord > 0 ? perRecord * clusterBytes : 2 ** -perRecord;
  const size = Math.min(volume.size, Number(boot.readBigUInt64LE(40)) * sectorBytes);
  const table = Number(boot.readBigUInt64LE(48)) * clusterBytes;
  const mirror = Number(boot.readBigUInt64LE(56)) * clusterBytes;
  if (!isPowerOfTwo(recordBytes, SECTOR, 65_536) || table <= 0 || table + recordBytes > size) return undefined;
  return { size, clusterBytes, recordBytes, table, mirror };
}

/**
 * Puts back what the last two bytes of each sector of a record held before it was written; undefined where they are not what the
 * write left there (it was torn), or the record is another one.
 */
export function repaired(record: Buffer, magic: "FILE" | "INDX"): Buffer | undefined {
  if (record.toString("latin1", 0, 4) !== magic) return undefined;
  const offset = record.readUInt16LE(4);
  const sectors = record.readUInt16LE(6) - 1;
  if (sectors < 1 || sectors * SECTOR !== record.length || offset + 2 + sectors * 2 > SECTOR - 2) return undefined;
  const content = Buffer.from(record);
  const mark = record.readUInt16LE(offset);
  for (let sector = 0; sector < sectors; sector++) {
    const end = (sector + 1) * SECTOR - 2;
    if (record.readUInt16LE(end) !== mark) return undefined;
    content.writeUInt16LE(record.readUInt16LE(offset + 2 + sector * 2), end);
  }
  return content;
}

/** Sectors of a cluster: above 128, a negative power of two. */
function count(value: number): number {
  return value > 128 ? 2 ** (256 - value) : value;
}

function isPowerOfTwo(value: number, smallest: number, largest: number): boolean {
  return value >= smallest && value <= largest && (value & (value - 1)) === 0;
}
