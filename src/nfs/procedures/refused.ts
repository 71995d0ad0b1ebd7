import type { ByteReader, ByteWriter } from "../../base/bytes.ts";
import { NFS3 } from "../status.ts";
import { readName } from "../xdr.ts";
import {
  type CallContext,
  failWithAttributes,
  failWithWcc,
  type Procedure,
  REFUSED_HANDLE,
  readNode,
} from "./procedure.ts";

/** MKDIR, REMOVE, RMDIR: the directory never changes. */
export const refuseChange: Procedure = (args, reply, context) => refuseWithWcc(args, reply, context, NFS3.rofs);

/** SYMLINK, MKNOD: there is nothing of that kind here, as FSINFO says. */
export const refuseKind: Procedure = (args, reply, context) => refuseWithWcc(args, reply, context, NFS3.notsupp);

function refuseWithWcc(args: ByteReader, reply: ByteWriter, context: CallContext, status: number): undefined {
  const node = readNode(args, context);
  return failWithWcc(reply, node === undefined ? REFUSED_HANDLE : status, node);
}

/** RENAME: wcc_data of both directories. */
export const refuseRename: Procedure = (args, reply, context) => {
  const from = readNode(args, context);
  readName(args);
  const to = readNode(args, context);
  failWithWcc(reply, from === undefined || to === undefined ? REFUSED_HANDLE : NFS3.rofs, from);
  // The second wcc_data stands alone: no status before it.
  reply.u32be(0).u32be(0);
  return undefined;
};

/** LINK: attributes of the file, then wcc_data of the directory. */
export const refuseLink: Procedure = (args, reply, context) => {
  const node = readNode(args, context);
  failWithAttributes(reply, node === undefined ? REFUSED_HANDLE : NFS3.notsupp, node);
  reply.u32be(0).u32be(0);
  return undefined;
};

/** READLINK: nothing here is a link. */
export const refuseReadlink: Procedure = (args, reply, context) => {
  const node = readNode(args, context);
  return failWithAttributes(reply, node === undefined ? REFUSED_HANDLE : NFS3.inval, node);
};
