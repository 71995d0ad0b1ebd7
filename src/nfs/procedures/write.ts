import type { ByteReader, ByteWriter } from "../../base/bytes.ts";
import { writeWcc } from "../attributes.ts";
import { NODE } from "../handle.ts";
import { NFS3, statusOf } from "../status.ts";
import { readOffset, readOpaque } from "../xdr.ts";
import {
  type CallContext,
  failWithWcc,
  mayUse,
  type Node,
  type Procedure,
  REFUSED_HANDLE,
  readNode,
  TRANSFER_LIMIT,
} from "./procedure.ts";

const UNSTABLE = 0;
const FILE_SYNC = 2;

/**
 * RFC 1813, section 3.3.7. A write that asks for DATA_SYNC or FILE_SYNC is durable before its reply; what was written UNSTABLE
 * is the client's to keep until COMMIT answers with the same verifier.
 */
export const write: Procedure = (args, reply, context) => {
  const node = readNode(args, context);
  if (node === undefined) return failWithWcc(reply, REFUSED_HANDLE, undefined);
  const offset = readOffset(args);
  const count = args.u32be();
  const isStable = args.u32be() !== UNSTABLE;
  const data = readOpaque(args, TRANSFER_LIMIT);
  const { served } = node;
  if (node.kind !== NODE.file) return failWithWcc(reply, NFS3.isdir, node);
  if (!mayUse(context.credentials, served)) return failWithWcc(reply, NFS3.acces, node);
  if (count !== data.length) return failWithWcc(reply, NFS3.inval, node);
  if (offset + count > served.target.size) return failWithWcc(reply, NFS3.fbig, node);
  return served.target.write(offset, data, isStable, node.mount).then(
    () => {
      served.touch();
      return succeed(reply, context, node, count, isStable);
    },
    (error: unknown) => {
      context.report(error);
      return failWithWcc(reply, statusOf(error), node);
    },
  );
};

/** The results of a call that ended with `status` before: the same call, so the same count. */
export function repeatWrite(args: ByteReader, reply: ByteWriter, context: CallContext, status: number): undefined {
  const node = readNode(args, context);
  if (node === undefined) return failWithWcc(reply, REFUSED_HANDLE, undefined);
  if (status !== NFS3.ok) return failWithWcc(reply, status, node);
  readOffset(args);
  const count = args.u32be();
  return succeed(reply, context, node, count, args.u32be() !== UNSTABLE);
}

function succeed(reply: ByteWriter, context: CallContext, node: Node, count: number, isStable: boolean): undefined {
  writeWcc(reply.u32be(NFS3.ok), node.served, node.kind);
  reply
    .u32be(count)
    .u32be(isStable ? FILE_SYNC : UNSTABLE)
    .bytes(context.verifier);
  return undefined;
}
