import { errorCode } from "../base/errors.ts";
import type { FindFile, ImageFile, ReadRequest } from "../disk/formats/image-file.ts";
import { LoadCache } from "../disk/formats/load-cache.ts";
import { openImage } from "../disk/formats/open-image.ts";
import type { ImageFormat } from "../disk/formats/virtual-image.ts";
import { RepositoryError } from "../repository/errors.ts";
import type { Repository, SnapshotTree } from "../repository/repository.ts";
import type { FileBlob, RepositoryFile } from "../repository/repository-file.ts";

/** Blobs that are kept while headers are looked at: several tables lie in one. */
const BLOBS_BYTES = 16 * 1024 * 1024;

/** A disk of a snapshot: what it is, and the files that it is made of. */
export interface SnapshotDisk {
  readonly format: ImageFormat;
  /** Bytes of the virtual disk. */
  readonly size: number;
  /** Its own file comes first. */
  readonly files: readonly [RepositoryFile, ...RepositoryFile[]];
}

/**
 * Looks at a disk's headers, and finds its other files in the same snapshot.
 *
 * @param format `auto` to recognise it
 * @throws DiskError IMAGE_CORRUPT, IMAGE_UNSUPPORTED, IMAGE_AMBIGUOUS, IMAGE_FILE_MISSING, IMAGE_MISMATCH; RepositoryError
 */
export async function openSnapshotDisk(
  repository: Pick<Repository, "openFiles" | "readBlob">,
  tree: Pick<SnapshotTree, "file">,
  own: RepositoryFile,
  format: ImageFormat | "auto",
): Promise<SnapshotDisk> {
  if (format === "raw") return { format, size: own.size, files: [own] };
  const blobs = new LoadCache(BLOBS_BYTES);
  const known = new Map<string, RepositoryFile>([[own.path, own]]);
  const asImageFile = (file: RepositoryFile): ImageFile => new UncachedFile(file, repository, blobs);
  const find: FindFile = async (path) => {
    const file = known.get(path) ?? (await openIfThere(repository, tree, path));
    if (file === undefined) return undefined;
    known.set(file.path, file);
    return asImageFile(file);
  };
  const image = await openImage(asImageFile(own), format, find, { readClass: "staging", missed: false });
  const paths = new Set(image.files.map(({ path }) => path));
  const others = [...known.values()].filter((file) => file !== own && paths.has(file.path));
  return { format: image.format, size: image.size, files: [own, ...others] };
}

async function openIfThere(
  repository: Pick<Repository, "openFiles">,
  tree: Pick<SnapshotTree, "file">,
  path: string,
): Promise<RepositoryFile | undefined> {
  try {
    const [file] = await repository.openFiles([await tree.file(path)]);
    return file;
  } catch (error) {
    const code = errorCode(error);
    if (code === "PATH_NOT_FOUND" || code === "PATH_NOT_A_FILE") return undefined;
    throw error;
  }
}

/** A file that is read from the repository as it is: for headers, which are few. */
class UncachedFile implements ImageFile {
  readonly path: string;
  readonly size: number;
  readonly #file: RepositoryFile;
  readonly #repository: Pick<Repository, "readBlob">;
  readonly #blobs: LoadCache;

  constructor(file: RepositoryFile, repository: Pick<Repository, "readBlob">, blobs: LoadCache) {
    this.path = file.path;
    this.size = file.size;
    this.#file = file;
    this.#repository = repository;
    this.#blobs = blobs;
  }

  async read(offset: number, length: number, request: ReadRequest): Promise<Buffer> {
    const into = Buffer.alloc(length);
    for (const blob of this.#file.blobsIn(offset, length)) {
      if (blob.zero) continue;
      const bytes = await this.#blobs.get(blob.id, request, () => this.#fetch(blob));
      const from = Math.max(offset, blob.offset);
      bytes.copy(into, from - offset, from - blob.offset, Math.min(blob.length, offset + length - blob.offset));
    }
    return into;
  }

  extents(offset: number, length: number): { offset: number; length: number; zero: boolean }[] {
    return [{ offset, length, zero: false }];
  }

  async #fetch(blob: FileBlob): Promise<Buffer> {
    const bytes = await this.#repository.readBlob(blob.id);
    if (bytes.length === blob.length) return bytes;
    const what = `blob ${blob.id} of ${this.path} holds ${bytes.length} bytes, the index says ${blob.length}`;
    throw new RepositoryError("REPOSITORY_BLOB_DAMAGED", what, { hint: "Run `restic check`." });
  }
}
