import { writePostAttributes } from "../attributes.ts";
import { NODE } from "../handle.ts";
import { NFS3 } from "../status.ts";
import { readName, writeOpaque } from "../xdr.ts";
import { failWithAttributes, type Procedure, REFUSED_HANDLE, readNode } from "./procedure.ts";

/** RFC 1813, section 3.3.3 */
export const lookup: Procedure = (args, reply, context) => {
  const directory = readNode(args, context);
  if (directory === undefined) return failWithAttributes(reply, REFUSED_HANDLE, undefined);
  if (directory.kind !== NODE.root) return failWithAttributes(reply, NFS3.notdir, directory);
  const name = readName(args);
  if (name === undefined) return failWithAttributes(reply, NFS3.nametoolong, directory);
  const { served, mount } = directory;
  const isRoot = name === "." || name === "..";
  if (!isRoot && name !== served.target.fileName) return failWithAttributes(reply, NFS3.noent, directory);
  const kind = isRoot ? NODE.root : NODE.file;
  writeOpaque(reply.u32be(NFS3.ok), served.handle(kind, mount));
  writePostAttributes(reply, served, kind);
  writePostAttributes(reply, served, NODE.root);
  return undefined;
};
