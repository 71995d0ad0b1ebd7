import { corrupt, type ImageFile, type ReadRequest, unsupported } from "./image-file.ts";
import type { OpenContext } from "./open-context.ts";
import type { Segment, SegmentList } from "./segments.ts";
import { type Tables, u64le } from "./tables.ts";
import { unpack } from "./unpack.ts";
import { mapParent, type VirtualImage } from "./virtual-image.ts";

const SECTOR = 512;
export const VMDK_MAGIC = 0x564d444b;
const FLAG = { zeroGrains: 4, compressed: 1 << 16, markers: 1 << 17 } as const;
/** The table of tables lies at the end, where the footer tells. */
const AT_END = 2 ** 64;
const FOOTER_MARKER = 3;
const DEFLATE = 1;
const GRAIN_LIMIT = 2 ** 21;
const DESCRIPTOR_LIMIT = 1024 * 1024;
const ZEROED = 1;
/** 64-bit sector, then the length of what follows. */
const GRAIN_MARKER_BYTES = 12;

/** A sparse extent's header, checked. */
export interface VmdkSparseHeader {
  /** Bytes that the extent covers. */
  readonly capacity: number;
  readonly grain: number;
  readonly tableEntries: number;
  readonly directoryOffset: number;
  readonly zeroGrains: boolean;
  readonly compressed: boolean;
  /** Of the embedded descriptor; empty in the pieces of a split disk. */
  readonly descriptor: string;
}

/** @throws DiskError IMAGE_CORRUPT, IMAGE_UNSUPPORTED */
export async function readVmdkSparseHeader(
  file: ImageFile,
  tables: Tables,
  request: ReadRequest,
): Promise<VmdkSparseHeader> {
  const first = await tables.bytes(file, 0, SECTOR, "its header", request);
  const header = u64le(first, 56) >= AT_END ? await readFooter(file, tables, request) : first;
  if (header.readUInt32LE(0) !== VMDK_MAGIC) throw corrupt(file, "no VMDK header");
  const version = header.readUInt32LE(4);
  if (version < 1 || version > 3) {
    throw unsupported(file, `a VMDK of version ${version}`, "Versions 1 to 3 are known; convert it with qemu-img.");
  }
  // What a transfer as text spoils.
  const isBinary = (header.readUInt32LE(8) & 1) === 0 || header.readUInt32BE(73) === 0x0a200d0a;
  if (!isBinary) throw corrupt(file, "it was transferred as text");
  const flags = header.readUInt32LE(8);
  const capacity = u64le(header, 12) * SECTOR;
  const grain = u64le(header, 20) * SECTOR;
  const tableEntries = header.readUInt32LE(44);
  const isPower = grain >= SECTOR && grain <= GRAIN_LIMIT && (grain & (grain - 1)) === 0;
  if (!isPower || tableEntries < 1 || tableEntries > 4096) {
    throw corrupt(file, `grains of ${grain} bytes, ${tableEntries} a table`);
  }
  if (!Number.isSafeInteger(capacity)) throw corrupt(file, "a disk of more than 2^53 bytes");
  const compressed = (flags & FLAG.compressed) !== 0;
  if (compressed && (header.readUInt16LE(77) !== DEFLATE || (flags & FLAG.markers) === 0)) {
    throw unsupported(file, "a VMDK with an unknown compression", "Convert it with qemu-img.");
  }
  // There may be a redundant one, for repairs. Whoever writes both writes this one first, and QEMU and others read this one only.
  const directoryOffset = u64le(header, 56) * SECTOR;
  const directoryBytes = Math.ceil(capacity / (grain * tableEntries)) * 4;
  if (!(directoryOffset + directoryBytes <= file.size)) throw corrupt(file, "its directory does not lie in the file");
  return {
    capacity,
    grain,
    tableEntries,
    directoryOffset,
    compressed,
    zeroGrains: (flags & FLAG.zeroGrains) !== 0,
    descriptor: await readDescriptor(file, first, tables, request),
  };
}

/** A streamed disk's header is written before its tables: a second one follows them, between two markers. */
async function readFooter(file: ImageFile, tables: Tables, request: ReadRequest): Promise<Buffer> {
  const end = await tables.bytes(file, file.size - 3 * SECTOR, 3 * SECTOR, "its footer", request);
  const isFooter =
    u64le(end, 0) === 1 &&
    end.readUInt32LE(8) === 0 &&
    end.readUInt32LE(12) === FOOTER_MARKER &&
    isZero(end.subarray(1024));
  if (!isFooter) throw corrupt(file, "its footer is missing: the file is not whole");
  const footer = end.subarray(SECTOR, 2 * SECTOR);
  if (u64le(footer, 56) >= AT_END) throw corrupt(file, "its footer does not tell where the tables are");
  return footer;
}

function isZero(bytes: Buffer): boolean {
  return bytes.every((byte) => byte === 0);
}

async function readDescriptor(file: ImageFile, header: Buffer, tables: Tables, request: ReadRequest): Promise<string> {
  const offset = u64le(header, 28) * SECTOR;
  const length = u64le(header, 36) * SECTOR;
  if (offset === 0 || length === 0) return "";
  if (length > DESCRIPTOR_LIMIT) throw corrupt(file, `a descriptor of ${length} bytes`);
  const text = (await tables.bytes(file, offset, length, "its descriptor", request)).toString("utf8");
  return text.split("\0")[0] ?? "";
}

/** A file of grains: a whole disk, or one extent of it. */
export class VmdkSparseExtent {
  readonly file: ImageFile;
  readonly header: VmdkSparseHeader;
  readonly #tables: Tables;

  constructor(file: ImageFile, header: VmdkSparseHeader, context: Pick<OpenContext, "tables">) {
    this.file = file;
    this.header = header;
    this.#tables = context.tables;
  }

  /**
   * Maps bytes of the extent into the list.
   *
   * @param parent what shows where nothing is allocated, and where in it this extent begins
   */
  async map(
    offset: number,
    length: number,
    list: SegmentList,
    parent: { readonly image: VirtualImage | undefined; readonly start: number },
    request: ReadRequest,
  ): Promise<void> {
    const { grain, tableEntries } = this.header;
    const coverage = grain * tableEntries;
    const end = offset + length;
    // Neighbouring grains that are not there are asked for at once: with grains of a sector, and images over images, each question costs.
    let hole = 0;
    const fillHole = async (until: number): Promise<void> => {
      if (hole > 0) await mapParent(parent.image, list, parent.start + until - hole, hole, request);
      hole = 0;
    };
    for (let at = offset; at < end; ) {
      const index = Math.floor(at / coverage);
      const stop = Math.min(end, (index + 1) * coverage);
      const table = await this.#table(index, request);
      const first = Math.floor((at - index * coverage) / grain);
      const count = Math.ceil((stop - index * coverage) / grain) - first;
      const entries =
        table === 0
          ? Buffer.alloc(0)
          : await this.#tables.bytes(this.file, table + first * 4, count * 4, "a grain table", request);
      if (table === 0) hole += stop - at;
      for (let entry = 0; entry * 4 < entries.length; entry++) {
        const grainStart = index * coverage + (first + entry) * grain;
        const from = Math.max(at, grainStart);
        const piece = Math.min(stop, grainStart + grain) - from;
        const sector = entries.readUInt32LE(entry * 4);
        if (sector === 0) {
          hole += piece;
          continue;
        }
        await fillHole(from);
        if (sector === ZEROED && this.header.zeroGrains) list.zero(piece);
        else if (this.header.compressed) list.compressed(this.#compressed(sector, from - grainStart, piece));
        else list.data(this.file, sector * SECTOR + (from - grainStart), piece);
      }
      at = stop;
    }
    await fillHole(end);
  }

  /** Where the table lies that this entry of the directory names; 0 where there is none. */
  async #table(index: number, request: ReadRequest): Promise<number> {
    const at = this.header.directoryOffset + index * 4;
    return (await this.#tables.bytes(this.file, at, 4, "its directory", request)).readUInt32LE(0) * SECTOR;
  }

  #compressed(sector: number, from: number, length: number): Omit<Extract<Segment, { kind: "compressed" }>, "kind"> {
    const { file } = this;
    const { grain } = this.header;
    const offset = sector * SECTOR;
    const stored = Math.min(GRAIN_MARKER_BYTES + 2 * grain, file.size - offset);
    if (!(stored > GRAIN_MARKER_BYTES))
      throw corrupt(file, `a grain is said to lie at ${offset}, beyond the file's end`);
    return {
      length,
      file,
      offset,
      stored,
      from,
      async unpack(request) {
        const marker = await file.read(offset, GRAIN_MARKER_BYTES, request);
        const packedLength = marker.readUInt32LE(8);
        if (packedLength === 0 || packedLength > stored - GRAIN_MARKER_BYTES) {
          throw corrupt(file, `the grain at ${offset} is said to take ${packedLength} bytes`);
        }
        const packed = await file.read(offset + GRAIN_MARKER_BYTES, packedLength, request);
        const whole = await unpack("zlib", packed, grain).catch((cause: unknown) => {
          throw corrupt(file, `the compressed grain at ${offset} cannot be unpacked`, cause);
        });
        // The disk's last grain may be stored without what lies beyond the disk.
        if (whole.length < from + length) throw corrupt(file, `the compressed grain at ${offset} is too short`);
        return whole;
      },
    };
  }
}
