import type { FileBlob } from "../repository/repository-file.ts";

/** The blobs of a disk by their place in the disk. A raw disk's file is one as it is. */
export interface DiskBlobs extends BlobSequence {
  /** The blobs that `[offset, offset + length)` needs, each with its own length. */
  blobsIn(offset: number, length: number): Iterable<FileBlob> | Promise<Iterable<FileBlob>>;
}

/** Blobs in the order of a disk. */
export interface BlobSequence {
  /** Bytes of the disk. */
  readonly size: number;
  readonly blobCount: number;
  blob(index: number): FileBlob;
  /** The last one that begins at or before the offset; 0 where there is none. */
  indexAt(offset: number): number;
}
