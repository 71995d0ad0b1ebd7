import { setImmediate as nextTurn } from "node:timers/promises";
import { Bitmap } from "../disk/bitmap.ts";
import type { Extent } from "../disk/block-device.ts";
import { DiskError } from "../disk/errors.ts";
import type { FileRange, ImageDisk } from "../disk/formats/image-disk.ts";
import type { ReadRequest } from "../disk/formats/image-file.ts";
import { RepositoryError } from "../repository/errors.ts";
import type { FileBlob, RepositoryFile } from "../repository/repository-file.ts";
import type { BlobSequence, DiskBlobs } from "./disk-blobs.ts";
import type { SnapshotDisk } from "./snapshot-disk.ts";

const SMALLEST_GRANULE = 64 * 1024;
/** Looked at before others get their turn. */
const RANGES_AT_ONCE = 512;
/** 2 MiB of memory at most. */
const GRANULES_LIMIT = 2 ** 19;

/**
 * The blobs of a disk in a format other than raw: where each of its bytes lies, its tables tell, which are read as they are needed. By
 * index it is a list of equal pieces of the disk, each with the first blob that holds data of it; a piece counts as zeros until
 * {@link learn} or {@link walk} has been there.
 */
export class FormatBlobs implements DiskBlobs {
  readonly size: number;
  readonly blobCount: number;
  /** Every blob of the disk once, by the first byte of the disk that needs it, as far as {@link walk} has come. */
  readonly order: BlobOrder;
  readonly #opened: () => Promise<ImageDisk>;
  readonly #files: ReadonlyMap<string, RepositoryFile>;
  /** The number of each file's first blob among those of all files. */
  readonly #bases: ReadonlyMap<string, number>;
  readonly #granule: number;
  /** By granule: 0, or one more than the blob's number. */
  readonly #known: Uint32Array;
  /** Granules whose tables were looked at. */
  readonly #looked: Bitmap;

  constructor({ size, files }: SnapshotDisk, opened: () => Promise<ImageDisk>) {
    this.#opened = opened;
    this.size = size;
    let granule = SMALLEST_GRANULE;
    while (size / granule > GRANULES_LIMIT) granule *= 2;
    this.#granule = granule;
    this.blobCount = Math.ceil(size / granule);
    this.#known = new Uint32Array(this.blobCount);
    this.#looked = new Bitmap(this.blobCount);
    this.#files = new Map(files.map((file) => [file.path, file]));
    const bases = new Map<string, number>();
    let total = 0;
    for (const file of files) {
      bases.set(file.path, total);
      total += file.blobCount;
    }
    this.#bases = bases;
    this.order = new BlobOrder(size, total, (number) => this.#numbered(number));
  }

  blob(index: number): FileBlob {
    const offset = index * this.#granule;
    const place = { index, offset, length: Math.min(this.#granule, this.size - offset) };
    const known = this.#known[index] ?? 0;
    if (known === 0) return { ...place, id: "", zero: true };
    return { ...place, id: this.#numbered(known - 1).id, zero: false };
  }

  indexAt(offset: number): number {
    return Math.floor(offset / this.#granule);
  }

  async blobsIn(offset: number, length: number): Promise<FileBlob[]> {
    const found: FileBlob[] = [];
    for await (const range of this.#ranges({ offset, length })) found.push(...this.#blobsOf(range));
    return found;
  }

  /** Whether {@link learn} has been at all of the extent. */
  knows({ offset, length }: Extent): boolean {
    const end = Math.min(this.blobCount, Math.ceil((offset + length) / this.#granule));
    return this.#looked.next(false, this.indexAt(offset), end) === end;
  }

  /** Finds out which blobs hold the extents. What the tables cannot tell stays unknown. */
  async learn(extents: Iterable<Extent>): Promise<void> {
    let count = 0;
    for (const { offset, length } of extents) {
      if (++count % RANGES_AT_ONCE === 0) await nextTurn();
      const end = Math.min(this.blobCount, Math.ceil((offset + length) / this.#granule));
      for (let at = this.indexAt(offset); at < end; ) {
        at = this.#looked.next(false, at, end);
        const next = this.#looked.next(true, at, end);
        const extent = { offset: at * this.#granule, length: (next - at) * this.#granule };
        for await (const range of this.#ranges(extent)) this.#note(range);
        for (; at < next; at++) this.#looked.add(at);
      }
    }
  }

  /**
   * Reads all tables, in the order of the disk, so that everything of it is known. Ends where the signal is aborted.
   *
   * @param onGrown told when {@link order} has become longer
   */
  async walk(signal: AbortSignal, onGrown: () => void): Promise<void> {
    let count = 0;
    for await (const range of this.#ranges({ offset: 0, length: this.size })) {
      if (signal.aborted) return;
      this.#note(range);
      for (const blob of this.#blobsOf(range)) {
        if (!blob.zero) this.order.add(startIn(range, blob), this.#numberOf(range, blob));
      }
      if (++count % RANGES_AT_ONCE === 0) {
        onGrown();
        await nextTurn();
      }
    }
    onGrown();
  }

  /** What fileRanges tells of an extent. Damage is told to whoever reads there; for staging it is a part that needs nothing. */
  async *#ranges({ offset, length }: Extent): AsyncGenerator<FileRange> {
    const disk = await unlessDamaged(this.#opened());
    const end = Math.min(offset + length, this.size);
    for (let at = offset; disk !== undefined && at < end; at += disk.rangesLimit) {
      const request: ReadRequest = { readClass: "staging", missed: false };
      const ranges = disk.fileRanges(at, Math.min(end - at, disk.rangesLimit), request);
      yield* (await unlessDamaged(ranges)) ?? [];
    }
  }

  #note(range: FileRange): void {
    for (const blob of this.#blobsOf(range)) {
      if (blob.zero) continue;
      const end = range.diskOffset + Math.min(range.length, blob.offset + blob.length - range.offset);
      const last = Math.min(this.blobCount - 1, Math.floor((end - 1) / this.#granule));
      for (let granule = Math.floor(startIn(range, blob) / this.#granule); granule <= last; granule++) {
        if (this.#known[granule] === 0) this.#known[granule] = this.#numberOf(range, blob) + 1;
      }
    }
  }

  #blobsOf({ file, offset, length }: FileRange): Iterable<FileBlob> {
    return this.#files.get(file.path)?.blobsIn(offset, length) ?? [];
  }

  #numberOf({ file }: FileRange, { index }: FileBlob): number {
    return (this.#bases.get(file.path) ?? 0) + index;
  }

  #numbered(number: number): FileBlob {
    let found: FileBlob | undefined;
    for (const [path, base] of this.#bases) {
      const file = this.#files.get(path);
      if (file !== undefined && number >= base && number < base + file.blobCount) found = file.blob(number - base);
    }
    if (found === undefined) throw new RangeError(`blob ${number}`);
    return found;
  }
}

/** Undefined where the image or the repository is damaged. */
async function unlessDamaged<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof DiskError || error instanceof RepositoryError) return undefined;
    throw error;
  }
}

/** Where in the disk a range's part begins that the blob holds. */
function startIn(range: FileRange, blob: FileBlob): number {
  return range.diskOffset + Math.max(0, blob.offset - range.offset);
}

/** Blobs in the order in which a copy of the disk needs them. It grows while it is used. */
class BlobOrder implements BlobSequence {
  readonly size: number;
  readonly #numbered: (number: number) => FileBlob;
  readonly #seen: Bitmap;
  readonly #offsets: number[] = [];
  readonly #numbers: number[] = [];

  constructor(size: number, blobs: number, numbered: (number: number) => FileBlob) {
    this.size = size;
    this.#numbered = numbered;
    this.#seen = new Bitmap(blobs);
  }

  get blobCount(): number {
    return this.#numbers.length;
  }

  /** @param offset in the disk, no less than that of what was added before */
  add(offset: number, number: number): void {
    if (!this.#seen.add(number)) return;
    this.#offsets.push(offset);
    this.#numbers.push(number);
  }

  blob(index: number): FileBlob {
    const blob = this.#numbered(this.#numbers[index] ?? -1);
    return { ...blob, index, offset: this.#offsets[index] ?? 0 };
  }

  indexAt(offset: number): number {
    let low = 0;
    let high = Math.max(0, this.#offsets.length - 1);
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if ((this.#offsets[middle] ?? 0) <= offset) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}
