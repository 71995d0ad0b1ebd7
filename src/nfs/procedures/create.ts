import type { ByteReader } from "../../base/bytes.ts";
import { writePostAttributes, writeWcc } from "../attributes.ts";
import { NODE } from "../handle.ts";
import { NFS3 } from "../status.ts";
import { readName, readOffset, writeOpaque } from "../xdr.ts";
import { failWithWcc, type Procedure, REFUSED_HANDLE, readNode } from "./procedure.ts";

const UNCHECKED = 0;
const EXCLUSIVE = 2;

/**
 * RFC 1813, section 3.3.8: "creating" the file that is there gives it back, unless that would cut it; there is no other. EXCLUSIVE
 * needs a place for the client's verifier, which there is none: clients fall back to GUARDED.
 */
export const create: Procedure = (args, reply, context) => {
  const directory = readNode(args, context);
  if (directory === undefined) return failWithWcc(reply, REFUSED_HANDLE, undefined);
  if (directory.kind !== NODE.root) return failWithWcc(reply, NFS3.notdir, directory);
  const { served, mount } = directory;
  const name = readName(args);
  if (name === undefined) return failWithWcc(reply, NFS3.nametoolong, directory);
  const mode = args.u32be();
  if (mode === EXCLUSIVE) return failWithWcc(reply, NFS3.notsupp, directory);
  if (name !== served.target.fileName) return failWithWcc(reply, NFS3.rofs, directory);
  if (mode !== UNCHECKED) return failWithWcc(reply, NFS3.exist, directory);
  if (!keepsSize(args, served.target.size)) return failWithWcc(reply, NFS3.perm, directory);
  writeOpaque(reply.u32be(NFS3.ok).u32be(1), served.handle(NODE.file, mount));
  writePostAttributes(reply, served, NODE.file);
  writeWcc(reply, served, NODE.root);
  return undefined;
};

/** Whether sattr3 leaves the size as it is. Of the rest, the file that is there takes nothing. */
function keepsSize(args: ByteReader, size: number): boolean {
  for (let count = 0; count < 3; count++) if (args.u32be() !== 0) args.skip(4);
  return args.u32be() === 0 || readOffset(args) === size;
}
