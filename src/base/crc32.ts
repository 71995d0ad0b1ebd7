import { crc32 as checksum } from "@node-rs/crc32";

/**
 * CRC-32 as of zlib, gzip and Ethernet (polynomial 0x04C11DB7, reflected), with the processor's carry-less multiplication: the one of
 * node:zlib goes byte by byte in Node's own builds and takes three times as long, which is more than all else in a read from the cache.
 *
 * @param sum the CRC-32 of what comes before: that of both together is the result
 */
export function crc32(bytes: Uint8Array | string, sum = 0): number {
  return checksum(bytes, sum);
}
