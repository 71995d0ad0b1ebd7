import { readGuid } from "../guid.ts";
import { reseal } from "./damage.ts";

const SECTOR = 512;
const MIB = 1024 * 1024;

/** Sectors that a differencing disk has of its own, by their number: runs of one value. */
export interface OwnSectors {
  readonly first: number;
  readonly count: number;
  readonly value: number;
}

function ownSectors(runs: readonly OwnSectors[], sectors: number): Map<number, number> {
  const own = new Map<number, number>();
  for (const { first, count, value } of runs) {
    for (let sector = first; sector < Math.min(sectors, first + count); sector++) own.set(sector, value);
  }
  return own;
}

/** What a disk shows that has sectors of its own over a parent. */
export function overlaid(parent: Buffer, size: number, runs: readonly OwnSectors[]): Buffer {
  const content = Buffer.alloc(size);
  parent.copy(content);
  for (const [sector, value] of ownSectors(runs, size / SECTOR)) {
    content.fill(value, sector * SECTOR, (sector + 1) * SECTOR);
  }
  return content;
}

/**
 * A differencing VHD over a dynamic one, which QEMU cannot make.
 *
 * @param name the parent's, as a relative Windows path
 */
export function differencingVhd(
  parent: Buffer,
  name: string,
  runs: readonly OwnSectors[],
  blockSize = 2 * MIB,
): Buffer {
  const footer = Buffer.from(parent.subarray(0, SECTOR));
  const size = Number(footer.readBigUInt64BE(48));
  const header = Buffer.from(parent.subarray(SECTOR, 3 * SECTOR));
  const blocks = Math.ceil(size / blockSize);
  const tableAt = 4 * SECTOR;
  const tableBytes = Math.ceil((blocks * 4) / SECTOR) * SECTOR;
  footer.writeUInt32BE(4, 60);
  footer.copy(header, 40, 68, 84);
  footer.fill(0x77, 68, 84);
  header.writeBigUInt64BE(BigInt(tableAt), 16);
  header.writeUInt32BE(blocks, 28);
  header.writeUInt32BE(blockSize, 32);
  const wide = Buffer.from(name, "utf16le");
  Buffer.from(wide).swap16().copy(header, 64);
  header.write("W2ru", 576, "latin1");
  header.writeUInt32BE(SECTOR, 580);
  header.writeUInt32BE(wide.length, 584);
  header.writeBigUInt64BE(BigInt(3 * SECTOR), 592);
  const locator = Buffer.alloc(SECTOR);
  wide.copy(locator);

  const own = ownSectors(runs, size / SECTOR);
  const table = Buffer.alloc(tableBytes, 0xff);
  const pieces = [footer, header, locator, table];
  let at = tableAt + tableBytes;
  for (let block = 0; block < blocks; block++) {
    const perBlock = blockSize / SECTOR;
    const bitmap = Buffer.alloc(Math.ceil(perBlock / 8 / SECTOR) * SECTOR);
    // What the bitmap does not name must not be seen.
    const data = Buffer.alloc(blockSize, 0xee);
    let isUsed = false;
    for (let sector = 0; sector < perBlock; sector++) {
      const value = own.get(block * perBlock + sector);
      if (value === undefined) continue;
      isUsed = true;
      bitmap[sector >>> 3] = (bitmap[sector >>> 3] ?? 0) | (0x80 >>> (sector & 7));
      data.fill(value, sector * SECTOR, (sector + 1) * SECTOR);
    }
    if (!isUsed) continue;
    table.writeUInt32BE(at / SECTOR, block * 4);
    pieces.push(bitmap, data);
    at += bitmap.length + data.length;
  }
  const whole = Buffer.concat([...pieces, footer]);
  reseal("vhd", whole);
  return whole;
}

const METADATA = "8b7ca206-4790-4b9a-b8fe-575f050f886e";
const TABLE = "2dc27766-f623-4200-9d64-115e9bfd4a08";
const PARAMETERS = "caa16737-fa36-4d43-b3b6-33f0aa44e76b";
/** Blocks of 1 MiB whose sectors one bitmap of 1 MiB names. */
const CHUNK = 4096;
const LOCATOR_ID = Buffer.from("2d5fd3a80bb34d45abf7d3d84834ab0c", "hex");
const LOCATOR_TYPE = Buffer.from("b7ef4ab09ed1814ab78925b8e9445913", "hex");

/**
 * A differencing VHDX, which QEMU cannot make, from an empty one with blocks of 1 MiB that it made.
 *
 * @param parent of the same make; its data's id is what the child keeps
 */
export function differencingVhdx(
  empty: Buffer,
  parent: Buffer,
  names: Readonly<Record<string, string>>,
  size: number,
  runs: readonly OwnSectors[],
): Buffer {
  const copy = Buffer.from(empty);
  const regions = new Map<string, number>();
  for (let index = 0; index < copy.readUInt32LE(192 * 1024 + 8); index++) {
    const at = 192 * 1024 + 16 + index * 32;
    regions.set(readGuid(copy, at), Number(copy.readBigUInt64LE(at + 16)));
  }
  const metadata = regions.get(METADATA) ?? 0;
  const table = regions.get(TABLE) ?? 0;
  const items = copy.readUInt16LE(metadata + 10);
  for (let index = 0; index < items; index++) {
    const at = metadata + 32 + index * 32;
    if (readGuid(copy, at) === PARAMETERS) copy.writeUInt32LE(2, metadata + copy.readUInt32LE(at + 16) + 4);
  }
  const values = { parent_linkage: `{${newestDataId(parent)}}`, ...names };
  const locator = locatorOf(values);
  const locatorAt = 128 * 1024;
  locator.copy(copy, metadata + locatorAt);
  const entry = metadata + 32 + items * 32;
  LOCATOR_ID.copy(copy, entry);
  copy.writeUInt32LE(locatorAt, entry + 16);
  copy.writeUInt32LE(locator.length, entry + 20);
  copy.writeUInt32LE(4, entry + 24);
  copy.writeUInt16LE(items + 1, metadata + 10);

  const own = ownSectors(runs, size / SECTOR);
  const pieces: Buffer[] = [copy, Buffer.alloc((MIB - (copy.length % MIB)) % MIB)];
  let at = copy.length + (pieces[1]?.length ?? 0);
  const add = (index: number, state: number, content: Buffer): void => {
    copy.writeBigUInt64LE((BigInt(at / MIB) << 20n) | BigInt(state), table + index * 8);
    pieces.push(content);
    at += content.length;
  };
  const perBlock = MIB / SECTOR;
  const blocks = [...new Set([...own.keys()].map((sector) => Math.floor(sector / perBlock)))].sort((a, b) => a - b);
  const bitmaps = new Map<number, Buffer>();
  for (const block of blocks) {
    const chunk = Math.floor(block / CHUNK);
    const bitmap = bitmaps.get(chunk) ?? Buffer.alloc(MIB);
    bitmaps.set(chunk, bitmap);
    const data = Buffer.alloc(MIB, 0xee);
    let used = 0;
    for (let sector = 0; sector < perBlock; sector++) {
      const value = own.get(block * perBlock + sector);
      if (value === undefined) continue;
      used++;
      const bit = (block % CHUNK) * perBlock + sector;
      bitmap[bit >>> 3] = (bitmap[bit >>> 3] ?? 0) | (1 << (bit & 7));
      data.fill(value, sector * SECTOR, (sector + 1) * SECTOR);
    }
    add(block + chunk, used === perBlock ? 6 : 7, data);
  }
  // After the entries of each chunk's blocks comes that of its bitmap.
  for (const [chunk, bitmap] of bitmaps) add(chunk * (CHUNK + 1) + CHUNK, 6, bitmap);
  return Buffer.concat(pieces);
}

/** The data's id in the newer one of a VHDX's headers. */
function newestDataId(image: Buffer): string {
  const [first, second] = [64 * 1024, 128 * 1024] as const;
  const isFirst = image.readBigUInt64LE(first + 8) > image.readBigUInt64LE(second + 8);
  return readGuid(image, (isFirst ? first : second) + 32);
}

function locatorOf(values: Readonly<Record<string, string>>): Buffer {
  const entries = Object.entries(values);
  const head = Buffer.alloc(20 + entries.length * 12);
  LOCATOR_TYPE.copy(head);
  head.writeUInt16LE(entries.length, 18);
  const texts: Buffer[] = [];
  let at = head.length;
  for (const [index, [key, value]] of entries.entries()) {
    const [wideKey, wideValue] = [Buffer.from(key, "utf16le"), Buffer.from(value, "utf16le")];
    head.writeUInt32LE(at, 20 + index * 12);
    head.writeUInt32LE(at + wideKey.length, 24 + index * 12);
    head.writeUInt16LE(wideKey.length, 28 + index * 12);
    head.writeUInt16LE(wideValue.length, 30 + index * 12);
    texts.push(wideKey, wideValue);
    at += wideKey.length + wideValue.length;
  }
  return Buffer.concat([head, ...texts]);
}
