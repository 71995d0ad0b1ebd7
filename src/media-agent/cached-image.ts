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
  async read(offset: number, length: number, readClass: ReadClass, into?: Buffer): Promise<Buffer> {
    const request: ReadRequest = { readClass, missed: false };
    const content = await this.readFor(offset, length, request, into);
    this.#options.onRead(offset, length, readClass, request.missed);
    return content;
  }

  /** As {@link read}, on behalf of a disk that is stored in this file. */
  async readFor(offset: number, length: number, request: ReadRequest, into?: Buffer): Promise<Buffer> {
    this.#check(offset, length);
    const { file } = this.#options;
    const bytes = into?.subarray(0, length) ?? Buffer.allocUnsafe(length);
    const parts: Promise<void>[] = [];
    for (const blob of file.blobsIn(offset, length)) {
      const from = Math.max(offset, blob.offset);
      const target = bytes.subarray(from - offset, Math.min(offset + length, blob.offset + blob.length) - offset);
      if (blob.zero) target.fill(0);
      else {
        const part = this.#fill(target, blob, from - blob.offset, request.readClass, () => {
          request.missed = true;
        });
        parts.push(part);
      }
    }
    await (parts.length === 1 ? parts[0] : Promise.all(parts));
    return bytes;
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

  /** Fills `target` with a blob's bytes from `from` on. */
  async #fill(target: Buffer, blob: FileBlob, from: number, readClass: ReadClass, onMiss: () => void): Promise<void> {
    const { cache, scheduler, tracker } = this.#options;
    const arrived = scheduler.arrived(blob.id);
    if (arrived !== undefined) this.#copy(arrived, target, blob, from);
    else if ((await cache.read(blob.id, from, target.length, target)) === undefined) {
      onMiss();
      const reason = readClass === "staging" ? "boot" : readClass;
      await scheduler.read(blob.id, reason, (content) => this.#copy(content, target, blob, from));
    }
    tracker.read(blob.id, blob.length, readClass);
  }

  /** The blob's bytes are only lent, and whoever waits on a slow socket must not hold all of it. */
  #copy(content: Buffer, target: Buffer, blob: FileBlob, from: number): void {
    if (content.length !== blob.length) {
      throw new RepositoryError(
        "REPOSITORY_BLOB_DAMAGED",
        `blob ${blob.id} of ${this.#options.file.path} holds ${content.length} bytes, the index says ${blob.length}`,
        { hint: "Run `restic check`." },
      );
    }
    content.copy(target, 0, from, from + target.length);
  }

  #check(offset: number, length: number): void {
    const isWithin = Number.isInteger(offset) && Number.isInteger(length) && offset >= 0 && length >= 0;
    if (!isWithin || offset + length > this.size) {
      throw new DiskError("OUT_OF_RANGE", `[${offset}, +${length}) is not within a disk of ${this.size} bytes`);
    }
  }
}
