import { createHash } from "node:crypto";
import { zstdDecompressSync } from "node:zlib";
import { type CryptoKey, decrypt, decryptInPieces } from "./crypto.ts";
import { decompressInPieces } from "./decompress.ts";
import { RepositoryError } from "./errors.ts";
import { release } from "./release.ts";

/**
 * The plain bytes of a blob: MAC checked, decompressed to exactly the announced length, SHA-256 equal to its id.
 *
 * @param uncompressedLength as the index says; 0 where the blob is stored uncompressed.
 * @throws RepositoryError REPOSITORY_BLOB_DAMAGED; altered bytes are never given back.
 */
export function decodeBlob(
  key: CryptoKey,
  id: string,
  pack: string,
  sealed: Uint8Array,
  uncompressedLength: number,
): Buffer {
  let plain: Buffer;
  try {
    plain = decrypt(key, sealed, `blob ${id} in pack ${pack}`);
    if (uncompressedLength > 0) {
      // Room for all of it and a byte more: it is decompressed in one piece, which is five times as fast as in many.
      const options = { maxOutputLength: uncompressedLength, chunkSize: Math.max(64, uncompressedLength + 1) };
      const packed = plain;
      plain = zstdDecompressSync(packed, options);
      release(packed);
    }
  } catch (cause) {
    throw damaged(
      id,
      pack,
      cause instanceof RepositoryError ? "altered, its MAC does not fit" : "cannot be decompressed",
      cause,
    );
  }
  if (uncompressedLength > 0 && plain.length !== uncompressedLength) {
    throw damaged(id, pack, `holds ${plain.length} bytes where the index says ${uncompressedLength}`);
  }
  if (createHash("sha256").update(plain).digest("hex") !== id)
    throw damaged(id, pack, "its content does not fit its id");
  return plain;
}

/**
 * The plain bytes of a tree blob in pieces, each of which loses its memory when the next is asked for: the tree that holds a large disk is
 * large itself. What they hold is known to be genuine only when the last one was followed by nothing: until then it may be anything.
 *
 * @throws RepositoryError REPOSITORY_BLOB_DAMAGED
 */
export async function* decodeTreeInPieces(
  key: CryptoKey,
  id: string,
  pack: string,
  sealed: Uint8Array,
  uncompressedLength: number,
): AsyncGenerator<Uint8Array> {
  const hash = createHash("sha256");
  let length = 0;
  try {
    const what = `blob ${id} in pack ${pack}`;
    const pieces = decryptInPieces(key, sealed, what);
    for await (const piece of uncompressedLength > 0 ? decompressInPieces(pieces, uncompressedLength, what) : pieces) {
      hash.update(piece);
      length += piece.length;
      yield piece;
    }
  } catch (cause) {
    if (!(cause instanceof RepositoryError)) throw cause;
    throw damaged(id, pack, cause.message, cause);
  }
  if (uncompressedLength > 0 && length !== uncompressedLength) {
    throw damaged(id, pack, `holds ${length} bytes where the index says ${uncompressedLength}`);
  }
  if (hash.digest("hex") !== id) throw damaged(id, pack, "its content does not fit its id");
}

function damaged(id: string, pack: string, detail: string, cause?: unknown): RepositoryError {
  return new RepositoryError("REPOSITORY_BLOB_DAMAGED", `blob ${id} in pack ${pack}: ${detail}`, {
    cause,
    hint: "Run `restic check --read-data`, then `restic repair packs`, or use another copy of the repository.",
  });
}
