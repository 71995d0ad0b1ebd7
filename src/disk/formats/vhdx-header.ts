import { crc32c } from "./crc32c.ts";
import { readGuid } from "./guid.ts";
import { corrupt, type ImageFile, quoted, type ReadRequest, unsupported } from "./image-file.ts";
import { type Tables, u64le } from "./tables.ts";

const KIB = 1024;
export const VHDX_MAGIC = "vhdxfile";
const HEADERS_AT = [64 * KIB, 128 * KIB];
const HEADER_BYTES = 4 * KIB;
const REGIONS_AT = [192 * KIB, 256 * KIB];
const REGIONS_BYTES = 64 * KIB;
const REGIONS_LIMIT = 2047;
const MIB = KIB * KIB;
const REGION = {
  table: "2dc27766-f623-4200-9d64-115e9bfd4a08",
  metadata: "8b7ca206-4790-4b9a-b8fe-575f050f886e",
} as const;

/** The newer one of a VHDX's two headers ([MS-VHDX] 2.2.2), checked. */
export interface VhdxHeader {
  readonly dataWriteId: string;
  /** All zeros where the log is empty. */
  readonly logId: string;
  readonly logOffset: number;
  readonly logLength: number;
}

interface Region {
  readonly offset: number;
  readonly length: number;
}

/** @throws DiskError IMAGE_CORRUPT, IMAGE_UNSUPPORTED */
export async function readVhdxHeader(file: ImageFile, tables: Tables, request: ReadRequest): Promise<VhdxHeader> {
  const magic = await tables.bytes(file, 0, 8, "its identifier", request);
  if (magic.toString("latin1") !== VHDX_MAGIC) throw corrupt(file, "no VHDX identifier");
  let newest: Buffer | undefined;
  for (const at of HEADERS_AT) {
    const header = await tables.bytes(file, at, HEADER_BYTES, "a header", request);
    const isValid = header.toString("latin1", 0, 4) === "head" && header.readUInt32LE(4) === crc32c(header, 4);
    if (isValid && (newest === undefined || header.readBigUInt64LE(8) > newest.readBigUInt64LE(8))) newest = header;
  }
  if (newest === undefined) throw corrupt(file, "neither of its headers has a right checksum");
  if (newest.readUInt16LE(66) !== 1)
    throw unsupported(file, "a VHDX of an unknown version", "Convert it with qemu-img.");
  return {
    dataWriteId: readGuid(newest, 32),
    logId: readGuid(newest, 48),
    logLength: newest.readUInt32LE(68),
    logOffset: u64le(newest, 72),
  };
}

/**
 * Where block allocation table and metadata lie ([MS-VHDX] 2.2.3).
 *
 * @throws DiskError IMAGE_CORRUPT, IMAGE_UNSUPPORTED
 */
export async function readVhdxRegions(
  file: ImageFile,
  tables: Tables,
  request: ReadRequest,
): Promise<{ readonly table: Region; readonly metadata: Region }> {
  for (const at of REGIONS_AT) {
    const bytes = await tables.bytes(file, at, REGIONS_BYTES, "its region table", request);
    const isValid = bytes.toString("latin1", 0, 4) === "regi" && bytes.readUInt32LE(4) === crc32c(bytes, 4);
    if (isValid) return parseRegions(file, bytes);
  }
  throw corrupt(file, "neither of its region tables has a right checksum");
}

function parseRegions(file: ImageFile, bytes: Buffer): { table: Region; metadata: Region } {
  const count = bytes.readUInt32LE(8);
  if (count > REGIONS_LIMIT) throw corrupt(file, `a table of ${count} regions`);
  const found = new Map<string, Region>();
  for (let index = 0; index < count; index++) {
    const at = 16 + index * 32;
    const id = readGuid(bytes, at);
    const region = { offset: u64le(bytes, at + 16), length: bytes.readUInt32LE(at + 24) };
    const isKnown = id === REGION.table || id === REGION.metadata;
    if (!isKnown && (bytes.readUInt32LE(at + 28) & 1) !== 0) {
      throw unsupported(file, `it has a region that is not known: ${quoted(id)}`, "Convert it with qemu-img.");
    }
    if (!isKnown) continue;
    const isWithin = region.offset >= MIB && region.offset % MIB === 0 && region.offset + region.length <= file.size;
    if (!isWithin || found.has(id)) throw corrupt(file, "a region does not lie in the file, or is there twice");
    found.set(id, region);
  }
  const table = found.get(REGION.table);
  const metadata = found.get(REGION.metadata);
  if (table === undefined || metadata === undefined) throw corrupt(file, "its table or its metadata is missing");
  return { table, metadata };
}
