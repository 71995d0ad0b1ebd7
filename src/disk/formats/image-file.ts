import type { AllocatedExtent, ReadClass } from "../block-device.ts";
import { DiskError } from "../errors.ts";

/** One read of somebody. It is passed down unchanged to every file that it needs. */
export interface ReadRequest {
  readonly readClass: ReadClass;
  /** Set by a file that did not have the bytes at hand. */
  missed: boolean;
}

/** A file of a snapshot that an image is stored in. Its content is hostile; that it is what was backed up is not in doubt. */
export interface ImageFile {
  /** Absolute, in the snapshot; tells one file from another. */
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  /** Exactly `length` bytes from `offset`, all of them within the file. */
  read(offset: number, length: number, request: ReadRequest): Promise<Buffer>;
  /** As `BlockSource.extents`. */
  extents(offset: number, length: number): AllocatedExtent[];
}

/** Finds another file of the same snapshot by its absolute path; undefined where there is none. */
export type FindFile = (path: string) => Promise<ImageFile | undefined>;

/** What an image's own tables say cannot be. */
export function corrupt(file: ImageFile, what: string, cause?: unknown): DiskError {
  return new DiskError("IMAGE_CORRUPT", `${file.path}: ${what}`, {
    cause,
    hint: "Restore the file with restic, and check or repair it with the tools of its format.",
  });
}

/** What an image asks for is understood, but not offered. */
export function unsupported(file: ImageFile, what: string, hint: string): DiskError {
  return new DiskError("IMAGE_UNSUPPORTED", `${file.path}: ${what}`, { hint });
}

const TEXT_LIMIT = 200;

/** Text out of an image, fit for an error message. */
export function quoted(text: string): string {
  const escaped = JSON.stringify(text.slice(0, TEXT_LIMIT));
  return escaped.length <= TEXT_LIMIT ? escaped : `${escaped.slice(0, TEXT_LIMIT)}…`;
}
