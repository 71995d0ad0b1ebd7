import type { AllocatedExtent, BlockSource, ReadClass } from "../disk/block-device.ts";
import type { BlockCache } from "../disk/cache/block-cache.ts";
import { DiskError } from "../disk/errors.ts";
import type { ReadRequest } from "../disk/formats/image-file.ts";
import { RepositoryError } from "../repository/errors.ts";
import type { FileBlob, RepositoryFile } from "../repository/repository-file.ts";
import type { BlobTracker } from "./blob-tracker.ts";
import type { ReadScheduler } from "./read-scheduler.ts";

export interface CachedImageOptions {
  readonly file: RepositoryFile;
  readonly cache: BlockCache;
  readonly scheduler: ReadScheduler;
  readonly tracker: BlobTracker;
  /** After each read; `missed` where any of it had to come from the repository. */
  readonly onRead: (offset: number, length: number, readClass: ReadClass, missed: boolean) => void;
}

/**
 * A disk image of a snapshot, read through the cache. A miss copies the blob from the repository into the cache, then serves it.
 * Zero blobs cost nothing. A repository that is away makes reads wait; damaged data is an error, never served.
 */
export class CachedImage implements BlockSource {
  readonly size: number;
  readonly #options: CachedImageOptions;

  constructor(options: CachedImageOptions) {
    this.#options = options;
    this.size = options.file.size;
  }

  /** @throws DiskError OUT_OF_RANGE; RepositoryError for a blob that is damaged or missing for good */
  async read(offset: number, length: number, readClass: ReadClass): Promise<Buffer> {
    const request: ReadRequest = { readClass, missed: false };
    const content = await this.readFor(offset, length, request);
    this.#options.onRead(offset, length, readClass, request.missed);
    return content;
  }

  /** As {@link read}, on behalf of a disk that is stored in this file. */
  async readFor(offset: number, length: number, request: ReadRequest): Promise<Buffer> {
    this.#check(offset, length);
    const { readClass } = request;
    const { file } = this.#options;
    const parts: { readonly blob: FileBlob; readonly from: number; readonly length: number }[] = [];
    for (const blob of file.blobsIn(offset, length)) {
      const from = Math.max(0, offset - blob.offset);
      parts.push({ blob, from, length: Math.min(blob.length, offset + length - blob.offset) - from });
    }
    const readPart = async (index: number): Promise<Buffer | undefined> => {
      const part = parts[index];
      if (part === undefined || part.blob.zero) return undefined;
      const cached = await this.#fromCache(part.blob, part.from, part.length, readClass);
      if (cached !== undefined) return cached;
      request.missed = true;
      return this.#fromRepository(part.blob, part.from, part.length, readClass);
    };

    const only = parts.length === 1 ? await readPart(0) : undefined;
    const into = only ?? Buffer.alloc(length);
    if (parts.length > 1) {
      const copyPart = async ({ blob, from }: (typeof parts)[number], index: number): Promise<void> => {
        (await readPart(index))?.copy(into, blob.offset + from - offset);
      };
      await Promise.all(parts.map(copyPart));
    }
    return into;
  }

  extents(offset: number, length: number): AllocatedExtent[] {
    this.#check(offset, length);
    const merged: { offset: number; length: number; zero: boolean }[] = [];
    for (const blob of this.#options.file.blobsIn(offset, length)) {
      const from = Math.max(offset, blob.offset);
      const piece = Math.min(offset + length, blob.offset + blob.length) - from;
      const last = merged.at(-1);
      if (last !== undefined && last.zero === blob.zero) last.length += piece;
      else merged.push({ offset: from, length: piece, zero: blob.zero });
    }
    return merged;
  }

  async #fromCache(blob: FileBlob, from: number, length: number, readClass: ReadClass): Promise<Buffer | undefined> {
    const { cache, scheduler, tracker } = this.#options;
    const arrived = scheduler.arrived(blob.id);
    const found =
      arrived === undefined ? await cache.read(blob.id, from, length) : this.#cut(blob, arrived, from, length);
    if (found !== undefined) tracker.read(blob.id, blob.length, readClass);
    return found;
  }

  async #fromRepository(blob: FileBlob, from: number, length: number, readClass: ReadClass): Promise<Buffer> {
    const { scheduler, tracker } = this.#options;
    const content = await scheduler.read(blob.id, readClass === "staging" ? "boot" : readClass);
    tracker.read(blob.id, blob.length, readClass);
    return this.#cut(blob, content, from, length);
  }

  /** A copy: the blob is larger, and whoever waits on a slow socket must not hold all of it. */
  #cut(blob: FileBlob, content: Buffer, from: number, length: number): Buffer {
    if (content.length === blob.length) return Buffer.from(content.subarray(from, from + length));
    throw new RepositoryError(
      "REPOSITORY_BLOB_DAMAGED",
      `blob ${blob.id} of ${this.#options.file.path} holds ${content.length} bytes, the index says ${blob.length}`,
      { hint: "Run `restic check`." },
    );
  }

  #check(offset: number, length: number): void {
    const isWithin = Number.isInteger(offset) && Number.isInteger(length) && offset >= 0 && length >= 0;
    if (!isWithin || offset + length > this.size) {
      throw new DiskError("OUT_OF_RANGE", `[${offset}, +${length}) is not within a disk of ${this.size} bytes`);
    }
  }
}
