import type { ByteReader } from "../../base/bytes.ts";
import { changeTime, DIRECTORY_MODE, FILE_MODE, writeWcc } from "../attributes.ts";
import { NODE } from "../handle.ts";
import { NFS3 } from "../status.ts";
import { readOffset } from "../xdr.ts";
import { failWithWcc, type Node, type Procedure, REFUSED_HANDLE, readNode } from "./procedure.ts";

const PERMISSIONS = 0o7777;
const CLIENT_TIME = 2;

/**
 * RFC 1813, section 3.3.2: what the file already is may be set again (KubeVirt's chown); nothing can be changed. The guard, a
 * change time that the client has seen, is held to.
 */
export const setattr: Procedure = (args, reply, context) => {
  const node = readNode(args, context);
  if (node === undefined) return failWithWcc(reply, REFUSED_HANDLE, undefined);
  const status = checkAttributes(args, node);
  const isGuarded = args.u32be() !== 0;
  if (isGuarded && args.u64be() !== changeTime(node.served.attributes(node.kind)))
    return failWithWcc(reply, NFS3.notSync, node);
  if (status !== NFS3.ok) return failWithWcc(reply, status, node);
  writeWcc(reply.u32be(NFS3.ok), node.served, node.kind);
  return undefined;
};

/** sattr3: whether it asks for nothing but what the node is. Reads all of it. */
export function checkAttributes(args: ByteReader, { served, kind }: Node): number {
  const isSet = (): boolean => args.u32be() !== 0;
  const { uid, gid, size } = served.target;
  const isFile = kind === NODE.file;
  let changes = false;
  if (isSet()) changes ||= (args.u32be() & PERMISSIONS) !== (isFile ? FILE_MODE : DIRECTORY_MODE);
  if (isSet()) changes ||= args.u32be() !== uid;
  if (isSet()) changes ||= args.u32be() !== gid;
  if (isSet()) changes ||= readOffset(args) !== size || !isFile;
  // Access and modification time: accepted, and without effect.
  for (let index = 0; index < 2; index++) if (args.u32be() === CLIENT_TIME) args.skip(8);
  return changes ? NFS3.perm : NFS3.ok;
}
