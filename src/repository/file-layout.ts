import { ID_BYTES } from "./blob-id.ts";
import type { BlobTable } from "./blob-table.ts";
import { RepositoryError } from "./errors.ts";
import type { IdTable } from "./id-table.ts";
import { Pause } from "./pause.ts";
import { RepositoryFile } from "./repository-file.ts";
import { findZeroBlobs } from "./zero-blobs.ts";

/** A regular file whose blobs have numbers in a table of ids. */
export interface NumberedFile {
  readonly path: string;
  /** Bytes, as the tree says. */
  readonly size: number;
  readonly ids: IdTable;
  /** Of its blobs, in order. */
  readonly numbers: Uint32Array;
}

/**
 * Where each blob of a file begins, from the lengths in the index.
 *
 * @param zeroId gives the id of a blob of `length` zeros
 * @throws RepositoryError REPOSITORY_BLOB_UNKNOWN where the index lacks one, REPOSITORY_OBJECT_DAMAGED where it contradicts
 *   itself or the file's size
 */
export async function layOut(
  node: NumberedFile,
  table: BlobTable,
  zeroId: (length: number) => Promise<string>,
): Promise<RepositoryFile> {
  const { ids, numbers } = node;
  const count = numbers.length;
  const offsets = new Float64Array(count + 1);
  const pause = new Pause();
  for (let index = 0; index < count; index++) {
    const length = table.plainLength(ids.ids, (numbers[index] ?? 0) * ID_BYTES);
    if (length < 0) throw unusable(node, index, length === -1);
    offsets[index + 1] = (offsets[index] ?? 0) + length;
    if (pause.due()) await pause.take();
  }
  if (offsets[count] !== node.size) {
    throw new RepositoryError(
      "REPOSITORY_OBJECT_DAMAGED",
      `${node.path}: its blobs hold ${offsets[count]} bytes, its size is ${node.size}`,
      { hint: "Run `restic check`." },
    );
  }
  return new RepositoryFile(node.path, ids, numbers, offsets, await findZeroBlobs(ids, numbers, offsets, zeroId));
}

function unusable({ path, ids, numbers }: NumberedFile, index: number, unknown: boolean): RepositoryError {
  const id = ids.hex(numbers[index] ?? 0);
  return unknown
    ? new RepositoryError("REPOSITORY_BLOB_UNKNOWN", `no index lists blob ${id} of ${path}`, {
        hint: "Run `restic check`; the snapshot is incomplete.",
      })
    : new RepositoryError("REPOSITORY_OBJECT_DAMAGED", `blob ${id} of ${path} has two lengths in the index`, {
        hint: "Run `restic repair index`.",
      });
}
