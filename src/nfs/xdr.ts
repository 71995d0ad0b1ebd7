import type { ByteReader, ByteWriter } from "../base/bytes.ts";
import { VmRestoreError } from "../base/errors.ts";

/** Arguments that cannot be what the procedure takes: answered with GARBAGE_ARGS. */
export class GarbageArgumentsError extends VmRestoreError {
  constructor(detail: string) {
    super("NFS_GARBAGE_ARGS", detail);
  }
}

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

/** A 64-bit number that must be a safe integer here: no disk is larger than 8 PiB. */
export function readOffset(reader: ByteReader): number {
  const value = reader.u64be();
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new GarbageArgumentsError("offset out of range");
  return Number(value);
}

/** A file name: at most 255 bytes. */
export function readName(reader: ByteReader): string {
  return readOpaque(reader, 255).toString("utf8");
}
