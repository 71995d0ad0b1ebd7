import { createHash } from "node:crypto";
import { IdTable } from "../../repository/id-table.ts";
import { RepositoryFile } from "../../repository/repository-file.ts";
import type { RecordedDisk } from "../boot-recorder.ts";

export interface TestBlob {
  /** Blobs of one content have one id. */
  readonly content: string;
  /** Bytes. */
  readonly length: number;
}

/** A file of a snapshot as the list of its blobs; those whose content is `zero` hold zeros. */
export function blobFile(blobs: readonly TestBlob[]): RepositoryFile {
  const ids = IdTable.withRoom(blobs.length);
  const numbers = Uint32Array.from(blobs, ({ content }) => ids.add(createHash("sha256").update(content).digest()));
  const offsets = new Float64Array(blobs.length + 1);
  for (const [index, { length }] of blobs.entries()) offsets[index + 1] = (offsets[index] ?? 0) + length;
  const zero = Uint8Array.from(blobs, ({ content }) => (content === "zero" ? 1 : 0));
  return new RepositoryFile("/disks/root.img", ids, numbers, offsets, zero);
}

/** Blobs of equal length, a letter each: `abca`. */
export function lettered(letters: string, length: number): RepositoryFile {
  return blobFile([...letters].map((letter) => ({ content: letter === "0" ? "zero" : letter, length })));
}

/** A disk whose blobs are known from the beginning, as those of a raw one are. */
export function rawDisk(name: string, file: RepositoryFile): RecordedDisk & { readonly file: RepositoryFile } {
  return { name, file, learn: async () => undefined };
}
