import type { ByteReader, ByteWriter } from "../base/bytes.ts";
import { VmRestoreError } from "../base/errors.ts";

/** Arguments that cannot be what the procedure takes: answered with GARBAGE_ARGS. */
export class GarbageArgumentsError extends VmRestoreError {
  constructor(detail: string) {
    super("NFS_GARBAGE_ARGS", detail);
  }
}

/** So long a name is still parsed, to be refused as such. */
const NAME_BYTES_LIMIT = 4096;

/** Variable-length opaque data (RFC 4506, section 4.10): length, bytes, padding to four. */
export function readOpaque(reader: ByteReader, limit: number): Buffer {
  const length = reader.u32be();
  if (length > limit) throw new GarbageArgumentsError(`opaque of ${length} bytes, over ${limit}`);
  const bytes = reader.bytes(length);
  reader.skip(padding(length));
  return bytes;
}

export function writeOpaque(writer: ByteWriter, bytes: Uint8Array): ByteWriter {
  return writer.u32be(bytes.length).bytes(bytes).zeros(padding(bytes.length));
}

export function padding(length: number): number {
  return (4 - (length & 3)) & 3;
}

/**
 * A 64-bit offset or size as a number. No disk reaches 8 PiB, and JavaScript's numbers are exact up to there: what lies beyond
 * becomes the largest such number, which is beyond the end of every file.
 */
export function readOffset(reader: ByteReader): number {
  const value = reader.u64be();
  return value > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(value);
}

/** Bytes of a file name at most. */
export const NAME_LIMIT = 255;

/** A file name; undefined where it is longer than {@link NAME_LIMIT}. */
export function readName(reader: ByteReader): string | undefined {
  const bytes = readOpaque(reader, NAME_BYTES_LIMIT);
  return bytes.length > NAME_LIMIT ? undefined : bytes.toString("utf8");
}
