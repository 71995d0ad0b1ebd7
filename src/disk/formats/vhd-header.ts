import { corrupt, type ImageFile, type ReadRequest, unsupported } from "./image-file.ts";
import { type Tables, u64be } from "./tables.ts";

const SECTOR = 512;
const DYNAMIC_HEADER_BYTES = 1024;
const LOCATORS = 8;
const LOCATOR_AT = 576;
const LOCATOR_BYTES = 24;
const LOCATOR_DATA_LIMIT = 4096;
const NAME_AT = 64;
const NAME_BYTES = 512;
const KIND = { fixed: 2, dynamic: 3, differencing: 4 } as const;
/** The largest geometry, which says nothing: the disk may be larger. */
const GEOMETRY_LIMIT = 65535 * 16 * 255;
/** Programs that make disks as large as the geometry says, whatever the size field holds. */
const BY_GEOMETRY = new Set(["vpc ", "qemu"]);

/** A VHD's footer (Microsoft's Virtual Hard Disk Image Format Specification), checked. */
export interface VhdFooter {
  readonly kind: keyof typeof KIND;
  /** Bytes of the disk. */
  readonly size: number;
  readonly headerOffset: number;
  /** 32 hex digits. */
  readonly id: string;
}

/** The header of a dynamic or differencing VHD, checked. */
export interface VhdDynamicHeader {
  readonly tableOffset: number;
  readonly tableEntries: number;
  readonly blockSize: number;
  /** 32 hex digits. */
  readonly parentId: string;
  /** Names of the parent as the image gives them, the best one first; `/` divides them. */
  readonly parentNames: readonly string[];
}

/**
 * The footer at the file's end, or, where that one is damaged, its copy at the beginning.
 *
 * @throws DiskError IMAGE_CORRUPT, IMAGE_UNSUPPORTED
 */
export async function readVhdFooter(file: ImageFile, tables: Tables, request: ReadRequest): Promise<VhdFooter> {
  if (file.size < SECTOR) throw corrupt(file, "no VHD footer");
  const end = await tables.bytes(file, file.size - SECTOR, SECTOR, "its footer", request);
  const start = await tables.bytes(file, 0, SECTOR, "its footer's copy", request);
  const footer = [end, start].find((bytes) => isVhdFooter(bytes));
  if (footer === undefined) throw corrupt(file, "no VHD footer whose checksum is right");
  if (footer.readUInt32BE(12) >>> 16 !== 1) {
    throw unsupported(file, "a VHD of an unknown version", "Convert it with qemu-img.");
  }
  const number = footer.readUInt32BE(60);
  const kind = (Object.keys(KIND) as (keyof typeof KIND)[]).find((name) => KIND[name] === number);
  if (kind === undefined) throw unsupported(file, `a VHD of kind ${number}`, "Convert it with qemu-img.");
  const size = diskSize(footer);
  if (!Number.isSafeInteger(size)) throw corrupt(file, "a disk of more than 2^53 bytes");
  return { kind, size, headerOffset: u64be(footer, 16), id: footer.toString("hex", 68, 84) };
}

/** Whether the sector is a footer with a right checksum. */
export function isVhdFooter(sector: Buffer): boolean {
  return sector.length === SECTOR && sector.toString("latin1", 0, 8) === "conectix" && hasRightChecksum(sector, 64);
}

function hasRightChecksum(bytes: Buffer, at: number): boolean {
  let sum = 0;
  for (const [index, byte] of bytes.entries()) sum += index >= at && index < at + 4 ? 0 : byte;
  return bytes.readUInt32BE(at) === ~sum >>> 0;
}

function diskSize(footer: Buffer): number {
  const geometry = footer.readUInt16BE(56) * footer.readUInt8(58) * footer.readUInt8(59);
  const creator = footer.toString("latin1", 28, 32);
  if (BY_GEOMETRY.has(creator) && geometry < GEOMETRY_LIMIT) return geometry * SECTOR;
  return u64be(footer, 48);
}

/** @throws DiskError IMAGE_CORRUPT, IMAGE_UNSUPPORTED */
export async function readVhdDynamicHeader(
  file: ImageFile,
  footer: VhdFooter,
  tables: Tables,
  request: ReadRequest,
): Promise<VhdDynamicHeader> {
  const header = await tables.bytes(file, footer.headerOffset, DYNAMIC_HEADER_BYTES, "its header", request);
  if (header.toString("latin1", 0, 8) !== "cxsparse" || !hasRightChecksum(header, 36)) {
    throw corrupt(file, "its header's checksum is wrong");
  }
  if (header.readUInt32BE(24) >>> 16 !== 1) {
    throw unsupported(file, "a VHD of an unknown version", "Convert it with qemu-img.");
  }
  const blockSize = header.readUInt32BE(32);
  const tableOffset = u64be(header, 16);
  const tableEntries = header.readUInt32BE(28);
  const isPower = blockSize >= SECTOR && (blockSize & (blockSize - 1)) === 0 && blockSize <= 2 ** 30;
  if (!isPower) throw corrupt(file, `blocks of ${blockSize} bytes`);
  if (Math.ceil(footer.size / blockSize) > tableEntries) throw corrupt(file, "its table does not cover the disk");
  if (tableOffset % SECTOR !== 0 || tableOffset + tableEntries * 4 > file.size) {
    throw corrupt(file, "its table does not lie in the file");
  }
  return {
    tableOffset,
    tableEntries,
    blockSize,
    parentId: header.toString("hex", 40, 56),
    parentNames: footer.kind === "differencing" ? await parentNames(file, header, tables, request) : [],
  };
}

/** Relative paths, then the last part of absolute ones: those lead to another machine's folders. */
async function parentNames(file: ImageFile, header: Buffer, tables: Tables, request: ReadRequest): Promise<string[]> {
  const relative: string[] = [];
  const last: string[] = [];
  for (let index = 0; index < LOCATORS; index++) {
    const at = LOCATOR_AT + index * LOCATOR_BYTES;
    const platform = header.toString("latin1", at, at + 4);
    const length = header.readUInt32BE(at + 8);
    if (platform !== "W2ru" && platform !== "W2ku") continue;
    if (length > LOCATOR_DATA_LIMIT) throw corrupt(file, `a parent's name of ${length} bytes`);
    const bytes = await tables.bytes(file, u64be(header, at + 16), length, "its parent's name", request);
    const path = windowsPath(bytes.subarray(0, length & ~1).toString("utf16le"));
    if (platform === "W2ru") relative.push(path);
    else last.push(path.split("/").at(-1) ?? "");
  }
  const bigEndian = Buffer.from(header.subarray(NAME_AT, NAME_AT + NAME_BYTES))
    .swap16()
    .toString("utf16le");
  last.push(windowsPath(bigEndian).split("/").at(-1) ?? "");
  return [...new Set([...relative, ...last])].filter((name) => name !== "");
}

/** A path as Windows writes it, up to the first NUL, with `/`. */
export function windowsPath(text: string): string {
  return (text.split("\0")[0] ?? "").replaceAll("\\", "/");
}
