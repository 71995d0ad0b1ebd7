import { createHash } from "node:crypto";
import { zstdDecompressSync } from "node:zlib";
import { type CryptoKey, decrypt } from "./crypto.ts";
import { RepositoryError } from "./errors.ts";
import { release, roomFor } from "./release.ts";

/**
 * The plain bytes of a blob: MAC checked, decompressed to exactly the announced length, SHA-256 equal to its id.
 *
 * @param sealed is given up
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
  const what = `blob ${id} in pack ${pack}`;
  const damaged = (detail: string, cause?: unknown): RepositoryError =>
    new RepositoryError("REPOSITORY_BLOB_DAMAGED", `${what}: ${detail}`, {
      cause,
      hint: "Run `restic check --read-data`, then `restic repair packs`, or use another copy of the repository.",
    });
  let plain: Buffer;
  try {
    plain = decrypt(key, sealed, what);
    release(sealed);
    if (uncompressedLength > 0) {
      // Room for all of it and a byte more: it is decompressed in one piece, which is five times as fast as in many.
      const options = { maxOutputLength: uncompressedLength, chunkSize: roomFor(Math.max(64, uncompressedLength + 1)) };
      const packed = plain;
      plain = zstdDecompressSync(packed, options);
      release(packed);
    }
  } catch (cause) {
    throw damaged(cause instanceof RepositoryError ? "altered, its MAC does not fit" : "cannot be decompressed", cause);
  }
  if (uncompressedLength > 0 && plain.length !== uncompressedLength) {
    throw damaged(`holds ${plain.length} bytes where the index says ${uncompressedLength}`);
  }
  if (createHash("sha256").update(plain).digest("hex") !== id) throw damaged("its content does not fit its id");
  return plain;
}
