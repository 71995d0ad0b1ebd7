import { ByteReader } from "../../base/bytes.ts";

const MAGIC = 0xfd2fb528;
const DICTIONARY_BYTES = [0, 1, 2, 4];
const SIZE_BYTES = [0, 2, 4, 8];
const RLE_BLOCK = 1;
const RESERVED_BLOCK = 3;

/**
 * How many bytes the Zstandard frame at the beginning takes (RFC 8878, 3.1.1). Decompressors take what follows a frame for another
 * one, and padding is none.
 *
 * @throws Error where no whole frame is there
 */
export function zstdFrameLength(bytes: Uint8Array): number {
  const reader = new ByteReader(bytes);
  if (reader.u32le() !== MAGIC) throw new Error("no Zstandard frame");
  const descriptor = reader.u8();
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const hasChecksum = (descriptor & 0x04) !== 0;
  const sizeBytes = SIZE_BYTES[descriptor >> 6] ?? 0;
  reader.skip(isSingleSegment ? 0 : 1);
  reader.skip(DICTIONARY_BYTES[descriptor & 3] ?? 0);
  reader.skip(isSingleSegment && sizeBytes === 0 ? 1 : sizeBytes);
  for (;;) {
    const header = reader.u16le() + reader.u8() * 65_536;
    const type = (header >> 1) & 3;
    if (type === RESERVED_BLOCK) throw new Error("a reserved kind of Zstandard block");
    reader.skip(type === RLE_BLOCK ? 1 : header >> 3);
    if ((header & 1) === 1) break;
  }
  reader.skip(hasChecksum ? 4 : 0);
  return reader.offset;
}
