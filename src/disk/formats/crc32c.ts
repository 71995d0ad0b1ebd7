const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = (value & 1) === 0 ? value >>> 1 : (value >>> 1) ^ 0x82f63b78;
  return value >>> 0;
});

/** CRC-32C (Castagnoli) of all bytes, with the four at `blank` taken as zeros: where a structure keeps its own checksum. */
export function crc32c(bytes: Uint8Array, blank: number): number {
  let sum = 0xffffffff;
  for (let index = 0; index < bytes.length; index++) {
    const byte = index >= blank && index < blank + 4 ? 0 : (bytes[index] ?? 0);
    sum = (TABLE[(sum ^ byte) & 0xff] ?? 0) ^ (sum >>> 8);
  }
  return ~sum >>> 0;
}
