import { writePostAttributes } from "../attributes.ts";
import { NODE } from "../handle.ts";
import { NFS3, statusOf } from "../status.ts";
import { padding, readOffset } from "../xdr.ts";
import { failWithAttributes, mayUse, type Procedure, REFUSED_HANDLE, readNode, TRANSFER_LIMIT } from "./procedure.ts";

const OFFSET_BYTES = 8;
const PADDING = [Buffer.alloc(0), Buffer.alloc(1), Buffer.alloc(2), Buffer.alloc(3)] as const;

/** Bytes that a READ asks for, by its record and where its arguments begin; 0 where they are malformed. */
export function readLength(record: Buffer, begin: number): number {
  if (begin + 4 > record.length) return 0;
  const handle = record.readUInt32BE(begin);
  const at = begin + 4 + handle + padding(handle) + OFFSET_BYTES;
  return at + 4 > record.length ? 0 : Math.min(record.readUInt32BE(at), TRANSFER_LIMIT);
}

/** RFC 1813, section 3.3.6. The data follows the reply's head without being copied. */
export const read: Procedure = (args, reply, context) => {
  const node = readNode(args, context);
  if (node === undefined) return failWithAttributes(reply, REFUSED_HANDLE, undefined);
  const offset = readOffset(args);
  const count = Math.min(args.u32be(), TRANSFER_LIMIT);
  if (node.kind !== NODE.file) return failWithAttributes(reply, NFS3.isdir, node);
  if (!mayUse(context.credentials, node.served)) return failWithAttributes(reply, NFS3.acces, node);
  const { target } = node.served;
  const length = Math.max(0, Math.min(count, target.size - offset));
  return context.buffers.read(target, Math.min(offset, target.size), length).then(
    (data) => {
      writePostAttributes(reply.u32be(NFS3.ok), node.served, node.kind);
      reply
        .u32be(length)
        .u32be(offset + length >= target.size ? 1 : 0)
        .u32be(length);
      const missing = padding(length);
      return missing === 0 ? data : Buffer.concat([data, PADDING[missing as 1 | 2 | 3]]);
    },
    (error: unknown) => {
      context.report(error);
      return failWithAttributes(reply, statusOf(error), node);
    },
  );
};
