import { corrupt, type ImageFile, quoted, type ReadRequest, unsupported } from "./image-file.ts";
import type { OpenContext } from "./open-context.ts";
import { type Qcow2Header, readQcow2Header } from "./qcow2-header.ts";
import { type Segment, SegmentList } from "./segments.ts";
import type { Tables } from "./tables.ts";
import { unpack } from "./unpack.ts";
import { type ImageFormat, mapParent, type VirtualImage } from "./virtual-image.ts";

const SECTOR = 512;
const SUBCLUSTERS = 32;
/** Bits 9 to 55 of an entry, in its upper and its lower half. */
const OFFSET_HIGH = 0x00ffffff;
const OFFSET_LOW = 0xfffffe00;
const L1_RESERVED_HIGH = 0x7f000000;
const L2_RESERVED_HIGH = 0x3f000000;
const COMPRESSED_HIGH = 0x40000000;
const LOW_RESERVED = 0x1fe;
const ZERO_FLAG = 1;

/** QEMU's names of formats, where a backing file may be of one. */
const BACKING_FORMATS: Readonly<Record<string, ImageFormat>> = {
  raw: "raw",
  qcow2: "qcow2",
  vmdk: "vmdk",
  vpc: "vhd",
  vhdx: "vhdx",
};

/**
 * A qcow2 image, version 2 or 3 (QEMU's docs/interop/qcow2.txt). Internal snapshots and bitmaps are left alone, and so are reference
 * counts, which only writers need.
 *
 * @throws DiskError IMAGE_CORRUPT, IMAGE_UNSUPPORTED, and those of its backing file
 */
export async function openQcow2(file: ImageFile, context: OpenContext, request: ReadRequest): Promise<VirtualImage> {
  const header = await readQcow2Header(file, context.tables, request);
  let backing: VirtualImage | undefined;
  if (header.backing !== undefined) {
    const { name, format } = header.backing;
    const known = format === undefined ? "auto" : BACKING_FORMATS[format];
    if (known === undefined) {
      throw unsupported(
        file,
        `its backing file is in the format ${quoted(format ?? "")}`,
        "Flatten it with `qemu-img convert`.",
      );
    }
    backing = await context.parent(file, name, known);
  }
  return new Qcow2Image(file, header, context.tables, backing);
}

/** What a cluster's entry says of a piece of it. */
type Kind = "unallocated" | "zero" | "data";

class Qcow2Image implements VirtualImage {
  readonly format = "qcow2";
  readonly size: number;
  readonly unit: number;
  readonly files: readonly ImageFile[];
  readonly #file: ImageFile;
  readonly #header: Qcow2Header;
  readonly #tables: Tables;
  readonly #backing: VirtualImage | undefined;
  readonly #cluster: number;
  readonly #entryBytes: number;

  constructor(file: ImageFile, header: Qcow2Header, tables: Tables, backing: VirtualImage | undefined) {
    this.#file = file;
    this.#header = header;
    this.#tables = tables;
    this.#backing = backing;
    this.#cluster = 2 ** header.clusterBits;
    this.#entryBytes = header.extendedL2 ? 16 : 8;
    this.size = header.size;
    const own = header.extendedL2 ? this.#cluster / SUBCLUSTERS : this.#cluster;
    this.unit = Math.min(own, backing?.unit ?? own);
    this.files = [file, ...(backing?.files ?? [])];
  }

  async map(offset: number, length: number, request: ReadRequest): Promise<Segment[]> {
    const list = new SegmentList();
    const coverage = (this.#cluster / this.#entryBytes) * this.#cluster;
    const end = offset + length;
    for (let at = offset; at < end; ) {
      const index = Math.floor(at / coverage);
      const stop = Math.min(end, (index + 1) * coverage);
      const l2 = await this.#l2Offset(index, request);
      if (l2 === 0) await mapParent(this.#backing, list, at, stop - at, request);
      else await this.#mapTable(l2, at - index * coverage, at, stop, list, request);
      at = stop;
    }
    return list.segments;
  }

  /** Where the second table lies that this entry of the first one names; 0 where there is none. */
  async #l2Offset(index: number, request: ReadRequest): Promise<number> {
    const entry = await this.#tables.bytes(
      this.#file,
      this.#header.l1Offset + index * 8,
      8,
      "its first table",
      request,
    );
    const high = entry.readUInt32BE(0);
    const low = entry.readUInt32BE(4);
    const offset = (high & OFFSET_HIGH) * 2 ** 32 + ((low & OFFSET_LOW) >>> 0);
    const isSound = (high & L1_RESERVED_HIGH) === 0 && (low & ~OFFSET_LOW) === 0 && offset % this.#cluster === 0;
    if (!isSound) throw corrupt(this.#file, `entry ${index} of its first table is wrong`);
    return offset;
  }

  /** @param within where `at` lies in the part of the disk that the table covers */
  async #mapTable(
    l2: number,
    within: number,
    at: number,
    stop: number,
    list: SegmentList,
    request: ReadRequest,
  ): Promise<void> {
    const first = Math.floor(within / this.#cluster);
    const count = Math.ceil((within + stop - at) / this.#cluster) - first;
    const size = this.#entryBytes;
    const entries = await this.#tables.bytes(this.#file, l2 + first * size, count * size, "a second table", request);
    /** Bytes before `position` that are not allocated here, and not yet in the list. */
    let missing = 0;
    let position = at;
    const settle = async (): Promise<void> => {
      const length = missing;
      missing = 0;
      if (length > 0) await mapParent(this.#backing, list, position - length, length, request);
    };
    for (let index = 0; index < count; index++) {
      const entry = entries.subarray(index * size, (index + 1) * size);
      const clusterEnd = at - within + (first + index + 1) * this.#cluster;
      while (position < Math.min(stop, clusterEnd)) {
        const inCluster = position - (clusterEnd - this.#cluster);
        const limit = Math.min(stop, clusterEnd) - position;
        if ((entry.readUInt32BE(0) & COMPRESSED_HIGH) !== 0) {
          await settle();
          this.#addCompressed(entry, inCluster, limit, list);
          position += limit;
          continue;
        }
        const { kind, length, offset } = this.#piece(entry, inCluster, limit);
        if (kind === "unallocated") missing += length;
        else {
          await settle();
          if (kind === "zero") list.zero(length);
          else list.data(this.#file, offset + inCluster, length);
        }
        position += length;
      }
    }
    await settle();
  }

  /** What the entry says of `[inCluster, +length)`, with `length` at most `limit`. `offset` is the cluster's in the file. */
  #piece(entry: Buffer, inCluster: number, limit: number): { kind: Kind; length: number; offset: number } {
    const high = entry.readUInt32BE(0);
    const low = entry.readUInt32BE(4);
    const offset = (high & OFFSET_HIGH) * 2 ** 32 + ((low & OFFSET_LOW) >>> 0);
    const isZero = (low & ZERO_FLAG) !== 0;
    const { version, extendedL2 } = this.#header;
    const isReserved = (high & L2_RESERVED_HIGH) !== 0 || (low & LOW_RESERVED) !== 0;
    if (isReserved || offset % this.#cluster !== 0 || (isZero && (version < 3 || extendedL2))) {
      throw corrupt(this.#file, `a second table holds the entry ${entry.toString("hex")}`);
    }
    if (!extendedL2) return { kind: isZero ? "zero" : offset === 0 ? "unallocated" : "data", length: limit, offset };

    const zeros = entry.readUInt32BE(8);
    const allocated = entry.readUInt32BE(12);
    if ((zeros & allocated) !== 0 || (offset === 0 && allocated !== 0)) {
      throw corrupt(this.#file, `a second table holds the entry ${entry.toString("hex")}`);
    }
    const subcluster = this.#cluster / SUBCLUSTERS;
    const index = Math.floor(inCluster / subcluster);
    const bit = 2 ** index;
    const kind = (zeros & bit) !== 0 ? "zero" : (allocated & bit) !== 0 ? "data" : "unallocated";
    return { kind, length: Math.min(limit, (index + 1) * subcluster - inCluster), offset };
  }

  #addCompressed(entry: Buffer, from: number, length: number, list: SegmentList): void {
    const file = this.#file;
    const size = this.#cluster;
    const bits = entry.readBigUInt64BE(0) & 0x3fffffffffffffffn;
    const shift = BigInt(62 - (this.#header.clusterBits - 8));
    const offset = Number(bits & ((1n << shift) - 1n));
    const sectors = Number(bits >> shift) + 1;
    const isSound = entry.readUInt32BE(0) < 0x80000000 && (entry.length === 8 || entry.readBigUInt64BE(8) === 0n);
    // The file may end within the last sector.
    const stored = Math.min(sectors * SECTOR - (offset % SECTOR), file.size - offset);
    if (!isSound || !(stored > 0)) throw corrupt(file, `a second table holds the entry ${entry.toString("hex")}`);
    const { codec } = this.#header;
    list.compressed({
      length,
      file,
      offset,
      stored,
      from,
      async unpack(request) {
        const packed = await file.read(offset, stored, request);
        const whole = await unpack(codec, packed, size).catch((cause: unknown) => {
          throw corrupt(file, `the compressed cluster at ${offset} cannot be unpacked`, cause);
        });
        if (whole.length !== size) throw corrupt(file, `the compressed cluster at ${offset} is too short`);
        return whole;
      },
    });
  }
}
