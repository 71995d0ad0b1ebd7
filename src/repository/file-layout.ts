import { ID_BYTES } from "./blob-id.ts";
import type { BlobTable } from "./blob-table.ts";
import { RepositoryError } from "./errors.ts";
import { Pause } from "./pause.ts";
import { RepositoryFile } from "./repository-file.ts";
import type { FileNode } from "./snapshot-tree.ts";
import { findZeroBlobs } from "./zero-blobs.ts";

/**
 * Where each blob of a file begins, from the lengths in the index.
 *
 * @param zeroId gives the id of a blob of `length` zeros
 * @throws RepositoryError REPOSITORY_BLOB_UNKNOWN where the index lacks one, REPOSITORY_OBJECT_DAMAGED where it contradicts
 *   itself or the file's size
 */
export async function layOut(
  node: FileNode,
  table: BlobTable,
  zeroId: (length: number) => Promise<string>,
): Promise<RepositoryFile> {
  const ids = node.content;
  const count = ids.length / ID_BYTES;
  const offsets = new Float64Array(count + 1);
  const pause = new Pause();
  for (let index = 0; index < count; index++) {
    const length = table.plainLength(ids, index * ID_BYTES);
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
  return new RepositoryFile(node.path, ids, offsets, await findZeroBlobs(ids, offsets, zeroId));
}

function unusable({ path, content }: FileNode, index: number, unknown: boolean): RepositoryError {
  const id = Buffer.from(content.subarray(index * ID_BYTES, (index + 1) * ID_BYTES)).toString("hex");
  return unknown
    ? new RepositoryError("REPOSITORY_BLOB_UNKNOWN", `no index lists blob ${id} of ${path}`, {
        hint: "Run `restic check`; the snapshot is incomplete.",
      })
    : new RepositoryError("REPOSITORY_OBJECT_DAMAGED", `blob ${id} of ${path} has two lengths in the index`, {
        hint: "Run `restic repair index`.",
      });
}
