import { writePostAttributes, writeWcc } from "../attributes.ts";
import { makeHandle, NODE } from "../handle.ts";
import { NFS3 } from "../status.ts";
import { readName, writeOpaque } from "../xdr.ts";
import { failWithWcc, type Procedure, REFUSED_HANDLE, readNode } from "./procedure.ts";

const UNCHECKED = 0;

/** RFC 1813, section 3.3.8: "creating" the file that is there gives it back; there is no other. */
export const create: Procedure = (args, reply, context) => {
  const directory = readNode(args, context);
  if (directory === undefined) return failWithWcc(reply, REFUSED_HANDLE, undefined);
  if (directory.kind !== NODE.root) return failWithWcc(reply, NFS3.notdir, directory);
  const { served } = directory;
  if (readName(args) !== served.target.fileName) return failWithWcc(reply, NFS3.rofs, directory);
  if (args.u32be() !== UNCHECKED) return failWithWcc(reply, NFS3.exist, directory);
  writeOpaque(reply.u32be(NFS3.ok).u32be(1), makeHandle(served.target, NODE.file));
  writePostAttributes(reply, served, NODE.file);
  writeWcc(reply, served, NODE.root);
  return undefined;
};
