import type { AllocatedExtent, BlockSource, Extent, ReadClass } from "../disk/block-device.ts";
import { ImageDisk } from "../disk/formats/image-disk.ts";
import type { ImageFile, ReadRequest } from "../disk/formats/image-file.ts";
import { openImage } from "../disk/formats/open-image.ts";
import type { RepositoryFile } from "../repository/repository-file.ts";
import { CachedImage, type CachedImageOptions } from "./cached-image.ts";
import type { BlobSequence, DiskBlobs } from "./disk-blobs.ts";
import { FormatBlobs } from "./format-blobs.ts";
import type { SnapshotDisk } from "./snapshot-disk.ts";

/** More than anybody reads ahead of a guest. */
const AHEAD_BYTES = 32 * 1024 * 1024;

/** Reads of a guest that wait to be learned from; of more, nothing is learned. */
const LEARNINGS_LIMIT = 64;

/** A disk of a snapshot, read through the cache, and the blobs that it is made of. */
export interface ReadImage {
  readonly image: BlockSource;
  /** Its blobs by their place in the disk. */
  readonly file: DiskBlobs;
  /** Its blobs in the order in which a copy of the disk needs them. */
  readonly order: BlobSequence;
  /** Finds out which blobs hold the extents, for who asks `file` by index. */
  learn(extents: Iterable<Extent>): Promise<void>;
  /**
   * Finds out all that there is to know of where the disk's blobs are. Ends where the signal is aborted.
   *
   * @param onGrown told when `order` has become longer
   */
  walk(signal: AbortSignal, onGrown: () => void): Promise<void>;
}

/** @param options of each of the disk's files; `onRead` is told the disk's offsets */
export function readImage(disk: SnapshotDisk, options: Omit<CachedImageOptions, "file">): ReadImage {
  const [file] = disk.files;
  if (disk.format === "raw") {
    const known = async (): Promise<void> => undefined;
    return { image: new CachedImage({ ...options, file }), file, order: file, learn: known, walk: known };
  }
  const image = new FormatImage(disk, options);
  const { blobs } = image;
  return {
    image,
    file: blobs,
    order: blobs.order,
    learn: (extents) => blobs.learn(extents),
    walk: (signal, onGrown) => blobs.walk(signal, onGrown),
  };
}

/** A disk in a format other than raw: opened when it is first read, each of its files read through the cache. */
class FormatImage implements BlockSource {
  readonly size: number;
  readonly blobs: FormatBlobs;
  readonly #snapshotDisk: SnapshotDisk;
  readonly #options: Omit<CachedImageOptions, "file">;
  #opening: Promise<ImageDisk> | undefined;
  #disk: ImageDisk | undefined;
  /** Whether opening it had to wait for the repository. */
  #openMissed = false;
  /** One after the other: their tables are the same, most of the time. */
  #learning: Promise<void> = Promise.resolve();
  #learnings = 0;

  constructor(disk: SnapshotDisk, options: Omit<CachedImageOptions, "file">) {
    this.size = disk.size;
    this.#snapshotDisk = disk;
    this.#options = options;
    this.blobs = new FormatBlobs(disk, () => this.opened());
  }

  /** Shared by all who wait for it; a failure is tried again by the next. */
  async opened(): Promise<ImageDisk> {
    if (this.#disk !== undefined) return this.#disk;
    this.#opening ??= this.#open();
    try {
      this.#disk = await this.#opening;
      return this.#disk;
    } finally {
      this.#opening = undefined;
    }
  }

  /** @throws DiskError OUT_OF_RANGE, IMAGE_CORRUPT; RepositoryError for a blob that is damaged or missing for good */
  async read(offset: number, length: number, readClass: ReadClass): Promise<Buffer> {
    const wasOpen = this.#disk !== undefined;
    const disk = this.#disk ?? (await this.opened());
    const request: ReadRequest = { readClass, missed: !wasOpen && this.#openMissed };
    const content = await disk.read(offset, length, request);
    if (readClass === "guest") this.#learnAround(offset, length);
    this.#options.onRead(offset, length, readClass, request.missed);
    return content;
  }

  extents(offset: number, length: number): AllocatedExtent[] {
    if (this.#disk !== undefined) return this.#disk.extents(offset, length);
    return length === 0 ? [] : [{ offset, length, zero: false }];
  }

  /** What a guest reads goes into its boot profile, and what follows may be read ahead: for both the blobs must be known. */
  #learnAround(offset: number, length: number): void {
    const extent = { offset, length: length + AHEAD_BYTES };
    if (this.#learnings === LEARNINGS_LIMIT || this.blobs.knows(extent)) return;
    this.#learnings++;
    const done = (): void => void this.#learnings--;
    this.#learning = this.#learning.then(() => this.blobs.learn([extent])).then(done, done);
  }

  async #open(): Promise<ImageDisk> {
    const { format, files } = this.#snapshotDisk;
    const [own] = files;
    const byPath = new Map(files.map((file) => [file.path, this.#cached(file)]));
    const first = byPath.get(own.path) ?? this.#cached(own);
    // A guest may wait for it.
    const request: ReadRequest = { readClass: "guest", missed: false };
    try {
      return new ImageDisk(await openImage(first, format, async (path) => byPath.get(path), request));
    } finally {
      this.#openMissed = request.missed;
    }
  }

  #cached(file: RepositoryFile): ImageFile {
    const image = new CachedImage({ ...this.#options, file });
    return {
      path: file.path,
      size: file.size,
      read: (offset, length, request) => image.readFor(offset, length, request),
      extents: (offset, length) => image.extents(offset, length),
    };
  }
}
