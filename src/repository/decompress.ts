import { createZstdDecompress, type ZstdDecompress } from "node:zlib";
import { RepositoryError } from "./errors.ts";
import { release } from "./release.ts";

const PIECE = 128 * 1024;

/**
 * Decompresses zstd from piece to piece. Both what is given and what is given back lose their memory when the next piece is asked for:
 * the garbage collector, which sees small objects only, would let it pile up.
 *
 * @param limit bytes that come out at most
 * @param what names the object in the error.
 * @throws RepositoryError REPOSITORY_OBJECT_DAMAGED
 */
export async function* decompressInPieces(
  pieces: Iterable<Uint8Array>,
  limit: number,
  what: string,
): AsyncGenerator<Uint8Array> {
  const zstd = createZstdDecompress({ chunkSize: PIECE });
  // What fails here makes the stream fail as well.
  const feeding = feed(zstd, pieces).catch((error: unknown) => void zstd.destroy(error as Error));
  let total = 0;
  try {
    for await (const piece of zstd as AsyncIterable<Buffer>) {
      total += piece.length;
      if (total > limit) throw new RangeError(`more than ${limit} bytes`);
      yield piece;
      // The stream goes on in the same memory until that is full.
      if (piece.byteOffset + piece.length === piece.buffer.byteLength) release(piece);
    }
    await feeding;
  } catch (cause) {
    throw new RepositoryError("REPOSITORY_OBJECT_DAMAGED", `${what} cannot be decompressed`, { cause });
  } finally {
    zstd.destroy();
  }
}

async function feed(zstd: ZstdDecompress, pieces: Iterable<Uint8Array>): Promise<void> {
  for (const piece of pieces) {
    await new Promise<void>((resolve, reject) => {
      zstd.write(piece, (error) => (error ? reject(error) : resolve()));
    });
    release(piece);
  }
  zstd.end();
}
