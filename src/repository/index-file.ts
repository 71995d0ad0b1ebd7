import { ID_BYTES } from "./blob-table.ts";
import { CRYPTO_OVERHEAD } from "./crypto.ts";
import { RepositoryError } from "./errors.ts";
import { parseJson } from "./key-file.ts";

/** restic's chunker makes blobs of at most 8 MiB; trees of huge directories may be larger. */
const BLOB_LIMIT = 64 * 1024 * 1024;
const UINT32_LIMIT = 2 ** 32;
const HEX_ID = /^[0-9a-f]{64}$/;

/** What was kept of one index file, in a form that passes cheaply between threads. */
export interface IndexEntries {
  readonly supersedes: string[];
  readonly packs: string[];
  /** Ids of the blobs kept, one behind the other. */
  readonly ids: Uint8Array<ArrayBuffer>;
  /** For each blob: number of its pack in `packs`, offset, length, uncompressed length (0: not compressed). */
  readonly columns: Uint32Array<ArrayBuffer>;
}

type Wanted = (type: "data" | "tree", id: Buffer) => boolean;

/**
 * Reads an index file (restic doc/design.rst, "Indexing") and keeps the blobs that are wanted. Everything in it is checked
 * before it is used: an index that lies about a place is refused as a whole.
 */
export function parseIndex(name: string, plain: Buffer, wanted: Wanted): IndexEntries {
  const bad = (detail: string): RepositoryError =>
    new RepositoryError("REPOSITORY_OBJECT_DAMAGED", `index/${name}: ${detail}`, {
      hint: "Run `restic repair index`.",
    });
  const root = parseJson(plain);
  if (!isRecord(root)) throw bad("not an index of restic");
  const supersedes = root.supersedes ?? [];
  const listed = root.packs ?? [];
  if (!Array.isArray(listed) || !Array.isArray(supersedes)) throw bad("not an index of restic");
  const packs: string[] = [];
  const ids: Buffer[] = [];
  const columns: number[] = [];
  for (const pack of listed as unknown[]) {
    if (!isRecord(pack) || !isHexId(pack.id) || !Array.isArray(pack.blobs))
      throw bad("a pack is not described as restic does");
    let number = -1;
    for (const blob of pack.blobs as unknown[]) {
      if (!isRecord(blob) || !isHexId(blob.id) || (blob.type !== "data" && blob.type !== "tree"))
        throw bad("a blob has no id or type");
      const { offset, length, uncompressed_length: uncompressed = 0 } = blob;
      if (!isCount(offset) || !isCount(length) || !isCount(uncompressed))
        throw bad(`blob ${blob.id} has no proper place`);
      if (
        length < CRYPTO_OVERHEAD ||
        length > BLOB_LIMIT ||
        uncompressed > BLOB_LIMIT ||
        offset + length >= UINT32_LIMIT
      ) {
        throw bad(`blob ${blob.id} has an impossible place`);
      }
      const id = Buffer.from(blob.id, "hex");
      if (!wanted(blob.type, id)) continue;
      if (number < 0) number = packs.push(pack.id) - 1;
      ids.push(id);
      columns.push(number, offset, length, uncompressed);
    }
  }
  const packed = new Uint8Array(ids.length * ID_BYTES);
  for (const [index, id] of ids.entries()) packed.set(id, index * ID_BYTES);
  return { supersedes: supersedes.filter(isHexId), packs, ids: packed, columns: Uint32Array.from(columns) };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function isHexId(value: unknown): value is string {
  return typeof value === "string" && HEX_ID.test(value);
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value < UINT32_LIMIT;
}
