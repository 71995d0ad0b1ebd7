import type { Repository } from "../repository.ts";
import type { RepositoryFile } from "../repository-file.ts";

/** Bytes of an opened file, put together from its blobs; throws where a blob is not as long as the file says. */
export async function readRange(
  repository: Repository,
  file: RepositoryFile,
  offset: number,
  length: number,
): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for (const blob of file.blobsIn(offset, length)) {
    const plain = blob.zero ? Buffer.alloc(blob.length) : await repository.readBlob(blob.id);
    if (plain.length !== blob.length) throw new Error(`blob ${blob.id}: ${plain.length} bytes, not ${blob.length}`);
    const from = Math.max(0, offset - blob.offset);
    pieces.push(plain.subarray(from, Math.min(blob.length, offset + length - blob.offset)));
  }
  return Buffer.concat(pieces);
}

/** Opens one file of a snapshot. */
export async function openFile(repository: Repository, snapshotId: string, path: string): Promise<RepositoryFile> {
  const tree = await repository.browse(await repository.snapshot(snapshotId));
  const [file] = await repository.openFiles([await tree.file(path)]);
  if (file === undefined) throw new Error(`${path} was not opened`);
  return file;
}
