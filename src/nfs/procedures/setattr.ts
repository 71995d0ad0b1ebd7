import type { ByteReader } from "../../base/bytes.ts";
import { FILE_MODE, writeWcc } from "../attributes.ts";
import { NODE } from "../handle.ts";
import { NFS3 } from "../status.ts";
import { readOffset } from "../xdr.ts";
import { failWithWcc, type Node, type Procedure, REFUSED_HANDLE, readNode } from "./procedure.ts";

const PERMISSIONS = 0o7777;
const CLIENT_TIME = 2;

/** RFC 1813, section 3.3.2: what the file already is may be set again (KubeVirt's chown); nothing can be changed. */
export const setattr: Procedure = (args, reply, context) => {
  const node = readNode(args, context);
  if (node === undefined) return failWithWcc(reply, REFUSED_HANDLE, undefined);
  const status = check(args, node);
  if (status !== NFS3.ok) return failWithWcc(reply, status, node);
  writeWcc(reply.u32be(NFS3.ok), node.served, node.kind);
  return undefined;
};

function check(args: ByteReader, { served, kind }: Node): number {
  const isSet = (): boolean => args.u32be() !== 0;
  const { uid, gid, size } = served.target;
  if (isSet() && (args.u32be() & PERMISSIONS) !== FILE_MODE && kind === NODE.file) return NFS3.perm;
  if (isSet() && args.u32be() !== uid) return NFS3.perm;
  if (isSet() && args.u32be() !== gid) return NFS3.perm;
  if (isSet() && (kind !== NODE.file || readOffset(args) !== size)) return NFS3.perm;
  // Access and modification time: accepted, and without effect.
  for (let index = 0; index < 2; index++) if (args.u32be() === CLIENT_TIME) args.skip(8);
  return NFS3.ok;
}
