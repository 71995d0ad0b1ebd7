import { writeAttributes } from "../attributes.ts";
import { NFS3 } from "../status.ts";
import { type Procedure, REFUSED_HANDLE, readNode } from "./procedure.ts";

/** RFC 1813, section 3.3.1 */
export const getattr: Procedure = (args, reply, context) => {
  const node = readNode(args, context);
  if (node === undefined) reply.u32be(REFUSED_HANDLE);
  else writeAttributes(reply.u32be(NFS3.ok), node.served, node.kind);
  return undefined;
};
