import { setImmediate as nextTurn } from "node:timers/promises";
import { Bitmap } from "../bitmap.ts";
import type { AllocatedExtent } from "../block-device.ts";
import { DiskError } from "../errors.ts";
import type { ImageFile, ReadRequest } from "./image-file.ts";
import { LoadCache } from "./load-cache.ts";
import type { CompressedSegment, Segment } from "./segments.ts";
import type { VirtualImage } from "./virtual-image.ts";

const MIB = 1024 * 1024;
/** Entries of tables that are looked at in one go: about two milliseconds. */
const UNITS_AT_ONCE = 8192;
/** Bytes that are read in one go. */
const READ_LIMIT = 16 * MIB;
/** Segments of one read that are under way at once. */
const READS_AT_ONCE = 32;
/** Unpacked clusters that are kept: neighbours of a small read are likely to be next. */
const UNPACKED_BYTES = 4 * MIB;
/** The known zeros take 2 MiB of memory at most. */
const ZERO_BITS = 16 * MIB;

/** A part of a file that bytes of a disk are made from. */
export interface FileRange {
  readonly file: ImageFile;
  /** In the file, bytes. */
  readonly offset: number;
  readonly length: number;
  /** Where in the disk the bytes are that need it. */
  readonly diskOffset: number;
}

/** A disk image of any format, read at any offset. */
export class ImageDisk {
  readonly image: VirtualImage;
  /** Bytes. */
  readonly size: number;
  readonly #unpacked = new LoadCache(UNPACKED_BYTES);
  /** Which granules of the disk are known to be zero, from the tables that were read. */
  readonly #zeros: Bitmap;
  readonly #granule: number;

  constructor(image: VirtualImage) {
    this.image = image;
    this.size = image.size;
    let granule = image.unit;
    while (this.size / granule > ZERO_BITS) granule *= 2;
    this.#granule = granule;
    this.#zeros = new Bitmap(Math.ceil(this.size / granule));
  }

  /**
   * Exactly `length` bytes from `offset`.
   *
   * @throws DiskError OUT_OF_RANGE, IMAGE_CORRUPT; the errors of the files
   */
  async read(offset: number, length: number, request: ReadRequest): Promise<Buffer> {
    this.#check(offset, length);
    const step = Math.min(READ_LIMIT, this.image.unit * UNITS_AT_ONCE);
    let into: Buffer | undefined;
    for (let at = 0; at < length; at += step) {
      const piece = Math.min(step, length - at);
      // Tables that are at hand make a step without a turn for others.
      if (at > 0) await nextTurn();
      const segments = await this.image.map(offset + at, piece, request);
      this.#learn(offset + at, segments);
      const [only] = segments;
      const isWhole = segments.length === 1 && piece === length;
      if (isWhole && only?.kind === "data") return only.file.read(only.offset, length, request);
      into ??= Buffer.alloc(length);
      await this.#fill(into.subarray(at, at + piece), segments, request);
    }
    return into ?? Buffer.alloc(0);
  }

  /**
   * As `BlockSource.extents`: zeros are those of the tables that some {@link read} or {@link fileRanges} has looked at.
   */
  extents(offset: number, length: number): AllocatedExtent[] {
    this.#check(offset, length);
    const end = offset + length;
    const found: AllocatedExtent[] = [];
    for (let at = offset; at < end; ) {
      const index = Math.floor(at / this.#granule);
      const zero = this.#zeros.has(index);
      const next = this.#zeros.next(!zero, index, this.#zeros.length);
      const stop = Math.min(end, next * this.#granule);
      found.push({ offset: at, length: stop - at, zero });
      at = stop;
    }
    return found;
  }

  /** Bytes of the disk that {@link fileRanges} may be asked for at once, so that nobody else is kept waiting. */
  get rangesLimit(): number {
    return this.image.unit * UNITS_AT_ONCE;
  }

  /**
   * Which parts of which files are read for `[offset, offset + length)` of the disk, in its order, apart from tables; parts that their file
   * knows to be zero are left out. Reads tables, and what it learns {@link extents} knows from then on.
   *
   * @throws as {@link read}
   */
  async fileRanges(offset: number, length: number, request: ReadRequest): Promise<FileRange[]> {
    this.#check(offset, length);
    const ranges: FileRange[] = [];
    const step = this.rangesLimit;
    for (let at = offset; at < offset + length; at += step) {
      const piece = Math.min(step, offset + length - at);
      if (at > offset) await nextTurn();
      const segments = withoutZeros(await this.image.map(at, piece, request));
      this.#learn(at, segments);
      let diskOffset = at;
      for (const segment of segments) {
        if (segment.kind !== "zero") {
          const bytes = segment.kind === "data" ? segment.length : segment.stored;
          ranges.push({ file: segment.file, offset: segment.offset, length: bytes, diskOffset });
        }
        diskOffset += segment.length;
      }
    }
    return ranges;
  }

  async #fill(into: Buffer, segments: readonly Segment[], request: ReadRequest): Promise<void> {
    const places = segments.values();
    let position = 0;
    const worker = async (): Promise<void> => {
      for (let next = places.next(); !next.done; next = places.next()) {
        const segment = next.value;
        const target = into.subarray(position, position + segment.length);
        position += segment.length;
        if (segment.kind === "data") {
          (await segment.file.read(segment.offset, segment.length, request)).copy(target);
        } else if (segment.kind === "compressed") {
          const whole = await this.#unpack(segment, request);
          whole.copy(target, 0, segment.from, segment.from + segment.length);
        }
      }
    };
    const workers = Math.min(READS_AT_ONCE, segments.length);
    await Promise.all(Array.from({ length: workers }, worker));
  }

  #unpack(segment: CompressedSegment, request: ReadRequest): Promise<Buffer> {
    return this.#unpacked.get(`${segment.offset} ${segment.file.path}`, request, segment.unpack);
  }

  #learn(offset: number, segments: readonly Segment[]): void {
    let at = offset;
    for (let index = 0; index < segments.length; ) {
      const start = at;
      while (segments[index]?.kind === "zero") at += segments[index++]?.length ?? 0;
      const first = Math.ceil(start / this.#granule);
      const end = at === this.size ? this.#zeros.length : Math.floor(at / this.#granule);
      for (let granule = first; granule < end; granule++) this.#zeros.add(granule);
      at += segments[index++]?.length ?? 0;
    }
  }

  #check(offset: number, length: number): void {
    const isWithin = Number.isInteger(offset) && Number.isInteger(length) && offset >= 0 && length >= 0;
    if (!isWithin || offset + length > this.size) {
      throw new DiskError("OUT_OF_RANGE", `[${offset}, +${length}) is not within a disk of ${this.size} bytes`);
    }
  }
}

/** Data of which the file knows that it is zero is as good as not allocated. */
function withoutZeros(segments: readonly Segment[]): Segment[] {
  return segments.flatMap((segment): Segment[] => {
    if (segment.kind !== "data") return [segment];
    return segment.file
      .extents(segment.offset, segment.length)
      .map(({ offset, length, zero }) =>
        zero ? { kind: "zero", length } : { kind: "data", length, file: segment.file, offset },
      );
  });
}
