import { crc32c as checksum } from "@node-rs/crc32";

const BLANK = Buffer.alloc(4);

/** CRC-32C (Castagnoli) of all bytes, with the four at `blank` taken as zeros: where a structure keeps its own checksum. */
export function crc32c(bytes: Uint8Array, blank: number): number {
  const before = checksum(bytes.subarray(0, blank));
  return checksum(bytes.subarray(blank + BLANK.length), checksum(BLANK, before));
}
