import { createHash } from "node:crypto";
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { type Backend, describeFile, type FileName, type FileType } from "./backends/backend.ts";
import { type CryptoKey, decrypt, encrypt } from "./crypto.ts";
import { RepositoryError } from "./errors.ts";
import { parseJson } from "./json.ts";
import { readAgainIfDamaged } from "./read-again.ts";
import { release, roomFor } from "./release.ts";

/** Snapshots, locks and config are small, and read by the event loop. */
export const SMALL_FILE_LIMIT = 4 * 1024 * 1024;
/** restic splits index files at 50,000 blobs, about 8 MiB of JSON. */
const INDEX_LIMIT = 256 * 1024 * 1024;
/** JSON with ids in hexadecimal shrinks to a quarter or so: with so much room it is decompressed in one piece. */
const EXPECTED_RATIO = 6;
/** First byte of a compressed file in repository format 2; JSON begins with `{` or `[`. */
const COMPRESSED = 2;

/**
 * The plain bytes of a file outside packs: decrypted, checked against its name, decompressed where it was compressed. Of an index file, which
 * is large, takes over the memory of `sealed`.
 */
export function decodeUnpacked(key: CryptoKey, sealed: Buffer, file: FileName): Buffer {
  const what = describeFile(file);
  if (file.type !== "config" && createHash("sha256").update(sealed).digest("hex") !== file.name) {
    throw new RepositoryError("REPOSITORY_OBJECT_DAMAGED", `${what} was altered: its content does not fit its name`, {
      hint: "Run `restic check`, and restore from another copy of the repository.",
    });
  }
  const limit = file.type === "index" ? INDEX_LIMIT : SMALL_FILE_LIMIT;
  const plain = decrypt(key, sealed, what);
  if (file.type === "index") release(sealed);
  if (plain[0] !== COMPRESSED) return plain;
  try {
    const chunkSize = roomFor(Math.min(limit, 1024 + EXPECTED_RATIO * plain.length));
    const unpacked = zstdDecompressSync(plain.subarray(1), { maxOutputLength: limit, chunkSize });
    release(plain);
    return unpacked;
  } catch (cause) {
    throw new RepositoryError("REPOSITORY_OBJECT_DAMAGED", `${what} cannot be decompressed`, { cause });
  }
}

/** Reads and decodes a JSON file outside packs; `undefined` where it holds no JSON. */
export async function readUnpackedJson(backend: Backend, key: CryptoKey, file: FileName): Promise<unknown> {
  return readAgainIfDamaged(async () =>
    parseJson(decodeUnpacked(key, await backend.readAll(file, SMALL_FILE_LIMIT), file)),
  );
}

/** Writes a JSON file outside packs under the name of its own hash, and gives back that name. */
export async function saveUnpackedJson(
  backend: Backend,
  key: CryptoKey,
  version: number,
  type: FileType,
  value: unknown,
): Promise<string> {
  const json = Buffer.from(JSON.stringify(value));
  const plain = version >= 2 ? Buffer.concat([Buffer.of(COMPRESSED), zstdCompressSync(json)]) : json;
  const sealed = encrypt(key, plain);
  const name = createHash("sha256").update(sealed).digest("hex");
  await backend.save({ type, name }, sealed);
  return name;
}
