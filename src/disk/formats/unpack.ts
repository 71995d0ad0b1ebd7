import { promisify } from "node:util";
import { constants, inflate, inflateRaw, zstdDecompress } from "node:zlib";
import { zstdFrameLength } from "./zstd-frame.ts";

const inflateZlib = promisify(inflate);
const inflateBare = promisify(inflateRaw);
const unzstd = promisify(zstdDecompress);
/** 8 MiB: four times what a cluster of the largest kind makes use of. */
const ZSTD_WINDOW_LOG = 23;

/** How a cluster is compressed: `deflate` is RFC 1951, `zlib` RFC 1950 around it, `zstd` RFC 8878. */
export type Codec = "deflate" | "zlib" | "zstd";

/**
 * Unpacks a cluster on the thread pool. What follows its end is left alone: writers pad to sectors.
 *
 * @param limit bytes that may come out at most; more is an error, before it is allocated
 * @throws the codec's own error
 */
export async function unpack(codec: Codec, bytes: Buffer, limit: number): Promise<Buffer> {
  const options = { maxOutputLength: limit, chunkSize: Math.max(64, limit) };
  if (codec === "deflate") return inflateBare(bytes, options);
  if (codec === "zlib") return inflateZlib(bytes, options);
  const frame = bytes.subarray(0, zstdFrameLength(bytes));
  return unzstd(frame, { ...options, params: { [constants.ZSTD_d_windowLogMax]: ZSTD_WINDOW_LOG } });
}
