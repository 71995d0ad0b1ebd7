import { writePostAttributes } from "../attributes.ts";
import { NFS3 } from "../status.ts";
import { failWithAttributes, type Procedure, REFUSED_HANDLE, readNode, TRANSFER_LIMIT } from "./procedure.ts";

const HOMOGENEOUS = 0x08;

/** RFC 1813, section 3.3.18. No free space, so that KubeVirt never tries to grow the disk at boot. */
export const fsstat: Procedure = (args, reply, context) => {
  const node = readNode(args, context);
  if (node === undefined) return failWithAttributes(reply, REFUSED_HANDLE, undefined);
  writePostAttributes(reply.u32be(NFS3.ok), node.served, node.kind);
  reply.u64be(BigInt(node.served.target.size)).u64be(0n).u64be(0n).u64be(2n).u64be(0n).u64be(0n).u32be(0);
  return undefined;
};

/** RFC 1813, section 3.3.19 */
export const fsinfo: Procedure = (args, reply, context) => {
  const node = readNode(args, context);
  if (node === undefined) return failWithAttributes(reply, REFUSED_HANDLE, undefined);
  writePostAttributes(reply.u32be(NFS3.ok), node.served, node.kind);
  reply.u32be(TRANSFER_LIMIT).u32be(TRANSFER_LIMIT).u32be(4096);
  reply.u32be(TRANSFER_LIMIT).u32be(TRANSFER_LIMIT).u32be(4096);
  reply.u32be(4096).u64be(BigInt(node.served.target.size)).u32be(0).u32be(1).u32be(HOMOGENEOUS);
  return undefined;
};

/** RFC 1813, section 3.3.20 */
export const pathconf: Procedure = (args, reply, context) => {
  const node = readNode(args, context);
  if (node === undefined) return failWithAttributes(reply, REFUSED_HANDLE, undefined);
  writePostAttributes(reply.u32be(NFS3.ok), node.served, node.kind);
  reply.u32be(1).u32be(255).u32be(1).u32be(1).u32be(0).u32be(1);
  return undefined;
};
