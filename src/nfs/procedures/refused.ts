import { NFS3 } from "../status.ts";
import { readName } from "../xdr.ts";
import { failWithAttributes, failWithWcc, type Procedure, REFUSED_HANDLE, readNode } from "./procedure.ts";

/** MKDIR, SYMLINK, MKNOD, REMOVE, RMDIR: the directory never changes. */
export const refuseWithWcc: Procedure = (args, reply, context) => {
  const node = readNode(args, context);
  return failWithWcc(reply, node === undefined ? REFUSED_HANDLE : NFS3.rofs, node);
};

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
  failWithAttributes(reply, node === undefined ? REFUSED_HANDLE : NFS3.rofs, node);
  reply.u32be(0).u32be(0);
  return undefined;
};

/** READLINK: nothing here is a link. */
export const refuseReadlink: Procedure = (args, reply, context) => {
  const node = readNode(args, context);
  return failWithAttributes(reply, node === undefined ? REFUSED_HANDLE : NFS3.inval, node);
};
