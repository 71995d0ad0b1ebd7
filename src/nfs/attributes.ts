import type { ByteWriter } from "../base/bytes.ts";
import { NODE, type NodeKind } from "./handle.ts";
import type { ServedExport } from "./served-export.ts";

const REGULAR = 1;
const DIRECTORY = 2;
export const FILE_MODE = 0o660;
const DIRECTORY_MODE = 0o755;
const SECOND = 1_000_000_000n;

/**
 * fattr3. `used` equals the size: QEMU's `io=native` and KubeVirt's resize decision look at it (the file counts as fully
 * allocated). Size, fsid and file ids never change; the modification time advances with every write.
 */
export function writeAttributes(writer: ByteWriter, served: ServedExport, kind: NodeKind): ByteWriter {
  const { target, modified } = served;
  const isFile = kind === NODE.file;
  const size = BigInt(isFile ? target.size : 4096);
  writer
    .u32be(isFile ? REGULAR : DIRECTORY)
    .u32be(isFile ? FILE_MODE : DIRECTORY_MODE)
    .u32be(isFile ? 1 : 2);
  writer.u32be(target.uid).u32be(target.gid).u64be(size).u64be(size).u32be(0).u32be(0);
  writer.u64be(target.fsid).u64be(BigInt(kind));
  const time = isFile ? modified : served.created;
  for (let index = 0; index < 3; index++) writer.u32be(Number(time / SECOND)).u32be(Number(time % SECOND));
  return writer;
}

/** post_op_attr: always there. */
export function writePostAttributes(writer: ByteWriter, served: ServedExport, kind: NodeKind): ByteWriter {
  return writeAttributes(writer.u32be(1), served, kind);
}

/** wcc_data without "before": it could not be told apart from other writes under way, and a stale one shows a wrong size. */
export function writeWcc(writer: ByteWriter, served: ServedExport, kind: NodeKind): ByteWriter {
  return writePostAttributes(writer.u32be(0), served, kind);
}
