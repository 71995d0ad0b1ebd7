import { ByteWriter } from "../base/bytes.ts";
import type { NfsExport } from "./export.ts";
import { NODE, type NodeKind } from "./handle.ts";
import type { ServedExport } from "./served-export.ts";

const REGULAR = 1;
const DIRECTORY = 2;
export const FILE_MODE = 0o660;
export const DIRECTORY_MODE = 0o755;
const DIRECTORY_BYTES = 4096;
const SECOND = 1_000_000_000n;
/** Where the three times begin in fattr3. */
const TIMES_AT = 60;
const TIME_BYTES = 8;

/**
 * fattr3. `used` equals the size: QEMU's `io=native` and KubeVirt's resize decision look at it (the file counts as fully
 * allocated). Size, fsid and file ids never change; the modification time advances with every write.
 *
 * @param time nanoseconds since the epoch
 */
export function encodeAttributes(target: NfsExport, kind: NodeKind, time: bigint): Buffer {
  const isFile = kind === NODE.file;
  const size = BigInt(isFile ? target.size : DIRECTORY_BYTES);
  const writer = new ByteWriter(84)
    .u32be(isFile ? REGULAR : DIRECTORY)
    .u32be(isFile ? FILE_MODE : DIRECTORY_MODE)
    .u32be(isFile ? 1 : 2);
  writer.u32be(target.uid).u32be(target.gid).u64be(size).u64be(size).u32be(0).u32be(0);
  const attributes = writer
    .u64be(target.fsid)
    .u64be(BigInt(kind))
    .zeros(3 * TIME_BYTES)
    .finish();
  setTimes(attributes, time);
  return attributes;
}

/** Makes all three times of an encoded fattr3 this one. */
export function setTimes(attributes: Buffer, time: bigint): void {
  const encoded = ((time / SECOND) << 32n) | (time % SECOND);
  for (let index = 0; index < 3; index++) attributes.writeBigUInt64BE(encoded, TIMES_AT + index * TIME_BYTES);
}

/** The ctime of an encoded fattr3, as nfstime3. */
export function changeTime(attributes: Buffer): bigint {
  return attributes.readBigUInt64BE(TIMES_AT);
}

export function writeAttributes(writer: ByteWriter, served: ServedExport, kind: NodeKind): ByteWriter {
  return writer.bytes(served.attributes(kind));
}

/** post_op_attr: always there. */
export function writePostAttributes(writer: ByteWriter, served: ServedExport, kind: NodeKind): ByteWriter {
  return writeAttributes(writer.u32be(1), served, kind);
}

/** wcc_data without "before": it could not be told apart from other writes under way, and a stale one shows a wrong size. */
export function writeWcc(writer: ByteWriter, served: ServedExport, kind: NodeKind): ByteWriter {
  return writePostAttributes(writer.u32be(0), served, kind);
}
