import { writePostAttributes } from "../attributes.ts";
import { NODE } from "../handle.ts";
import { NFS3 } from "../status.ts";
import { failWithAttributes, mayUse, type Procedure, REFUSED_HANDLE, readNode } from "./procedure.ts";

const READ = 0x01;
const LOOKUP = 0x02;
const MODIFY = 0x04;
const EXTEND = 0x08;

/** RFC 1813, section 3.3.4. What is not granted is left out; EXECUTE means nothing for a directory. */
export const access: Procedure = (args, reply, context) => {
  const node = readNode(args, context);
  if (node === undefined) return failWithAttributes(reply, REFUSED_HANDLE, undefined);
  const wanted = args.u32be();
  const file = mayUse(context.credentials, node.served) ? READ | MODIFY | EXTEND : 0;
  writePostAttributes(reply.u32be(NFS3.ok), node.served, node.kind);
  reply.u32be(wanted & (node.kind === NODE.file ? file : READ | LOOKUP));
  return undefined;
};
