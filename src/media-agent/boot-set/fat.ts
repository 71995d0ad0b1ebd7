import type { Extent } from "../../disk/block-device.ts";
import type { Volume } from "./bounded-disk.ts";

const MIB = 1024 * 1024;
/** A boot partition's files; one that holds more is no boot partition. */
const FILES_LIMIT = 160 * MIB;
const TABLE_LIMIT = 8 * MIB;
const FIRST_CLUSTER = 2;

interface Layout {
  readonly bits: 12 | 16 | 32;
  readonly table: Extent;
  readonly clusters: number;
  readonly clusterBytes: number;
  /** Where cluster 2 begins. */
  readonly data: number;
}

/**
 * A FAT volume (an EFI system or boot partition): its tables, then every cluster in use, up to a limit.
 *
 * Follows "Microsoft Extensible Firmware Initiative FAT32 File System Specification" 1.03.
 */
export async function* fatBootSet(volume: Volume): AsyncGenerator<Extent> {
  const layout = parseBootSector(await volume.read(0, 512), volume.size);
  if (layout === undefined) return;
  yield { offset: 0, length: layout.data };
  let left = FILES_LIMIT;
  for await (const { offset, length } of usedRuns(volume, layout)) {
    const piece = Math.min(length, left);
    if (piece === 0) return;
    left -= piece;
    yield { offset, length: piece };
  }
}

function parseBootSector(sector: Buffer | undefined, size: number): Layout | undefined {
  if (sector === undefined || sector.readUInt16LE(510) !== 0xaa55) return undefined;
  const sectorBytes = sector.readUInt16LE(11);
  const perCluster = sector.readUInt8(13);
  const tables = sector.readUInt8(16);
  const isPowerOfTwo = (value: number): boolean => value > 0 && (value & (value - 1)) === 0;
  if (!isPowerOfTwo(sectorBytes) || sectorBytes < 512 || sectorBytes > 4096) return undefined;
  if (!isPowerOfTwo(perCluster) || tables < 1 || tables > 2) return undefined;
  const reserved = sector.readUInt16LE(14);
  const tableSectors = sector.readUInt16LE(22) || sector.readUInt32LE(36);
  const sectors = sector.readUInt16LE(19) || sector.readUInt32LE(32);
  const rootSectors = Math.ceil((sector.readUInt16LE(17) * 32) / sectorBytes);
  const dataSector = reserved + tables * tableSectors + rootSectors;
  const clusters = Math.floor((sectors - dataSector) / perCluster);
  if (reserved === 0 || tableSectors === 0 || clusters < 1 || sectors * sectorBytes > size) return undefined;
  return {
    bits: clusters < 4085 ? 12 : clusters < 65_525 ? 16 : 32,
    table: { offset: reserved * sectorBytes, length: tableSectors * sectorBytes },
    clusters,
    clusterBytes: perCluster * sectorBytes,
    data: dataSector * sectorBytes,
  };
}

async function* usedRuns(volume: Volume, layout: Layout): AsyncGenerator<Extent> {
  const { bits, table, clusters, clusterBytes, data } = layout;
  const length = Math.min(table.length, TABLE_LIMIT, Math.ceil(((clusters + FIRST_CLUSTER) * bits) / 8));
  const entries = await readAll(volume, table.offset, length);
  if (entries === undefined) return;
  const known = Math.min(clusters, Math.floor((entries.length * 8) / bits) - FIRST_CLUSTER);
  let start: number | undefined;
  for (let index = 0; index <= known; index++) {
    const isUsed = index < known && entry(entries, index + FIRST_CLUSTER, bits) !== 0;
    if (isUsed && start === undefined) start = index;
    if (isUsed || start === undefined) continue;
    yield { offset: data + start * clusterBytes, length: (index - start) * clusterBytes };
    start = undefined;
  }
}

function entry(table: Buffer, cluster: number, bits: Layout["bits"]): number {
  if (bits === 32) return table.readUInt32LE(cluster * 4) & 0x0fffffff;
  if (bits === 16) return table.readUInt16LE(cluster * 2);
  const at = Math.floor(cluster * 1.5);
  const low = table.readUInt8(at);
  const high = at + 1 < table.length ? table.readUInt8(at + 1) : 0;
  const pair = low | (high << 8);
  return cluster % 2 === 0 ? pair & 0xfff : pair >> 4;
}

async function readAll(volume: Volume, offset: number, length: number): Promise<Buffer | undefined> {
  const pieces: Buffer[] = [];
  for (let at = 0; at < length; at += MIB) {
    const piece = await volume.read(offset + at, Math.min(MIB, length - at));
    if (piece === undefined) return undefined;
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}
