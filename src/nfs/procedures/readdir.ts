import { type ByteReader, ByteWriter } from "../../base/bytes.ts";
import { writePostAttributes } from "../attributes.ts";
import { NODE, type NodeKind } from "../handle.ts";
import { NFS3 } from "../status.ts";
import { padding, readOffset, writeOpaque } from "../xdr.ts";
import {
  type CallContext,
  failWithAttributes,
  type Node,
  type Procedure,
  REFUSED_HANDLE,
  readNode,
} from "./procedure.ts";

/** The reply's fixed part: status, attributes, verifier, end marks. */
const FIXED_BYTES = 128;
/** What READDIR gives of an entry beside its name. */
const ENTRY_BYTES = 24;

/** RFC 1813, section 3.3.16 */
export const readdir: Procedure = (args, reply, context) => list(args, reply, context, false);

/** RFC 1813, section 3.3.17 */
export const readdirplus: Procedure = (args, reply, context) => list(args, reply, context, true);

function list(args: ByteReader, reply: ByteWriter, context: CallContext, plus: boolean): undefined {
  const directory = readNode(args, context);
  if (directory === undefined) return failWithAttributes(reply, REFUSED_HANDLE, undefined);
  if (directory.kind !== NODE.root) return failWithAttributes(reply, NFS3.notdir, directory);
  const cookie = readOffset(args);
  const verifier = args.u64be();
  /** READDIRPLUS bounds what READDIR would give of it as well. */
  const nameLimit = plus ? args.u32be() : Number.POSITIVE_INFINITY;
  const limit = args.u32be();
  const { served } = directory;
  const names: [string, NodeKind][] = [
    [".", NODE.root],
    ["..", NODE.root],
    [served.target.fileName, NODE.file],
  ];
  // The directory never changes, and so neither do its verifier, 0, and its cookies.
  if (cookie > names.length || verifier !== 0n) return failWithAttributes(reply, NFS3.badCookie, directory);
  const entries: Buffer[] = [];
  let bytes = FIXED_BYTES;
  let nameBytes = 0;
  let next = cookie;
  for (; next < names.length; next++) {
    const [name, kind] = names[next] as [string, NodeKind];
    const entry = encode(directory, name, kind, next + 1, plus);
    bytes += entry.length;
    nameBytes += ENTRY_BYTES + name.length + padding(name.length);
    if (bytes > limit || (nameBytes > nameLimit && entries.length > 0)) break;
    entries.push(entry);
  }
  if (entries.length === 0 && next < names.length) return failWithAttributes(reply, NFS3.toosmall, directory);
  writePostAttributes(reply.u32be(NFS3.ok), served, NODE.root).zeros(8);
  for (const entry of entries) reply.bytes(entry);
  reply.u32be(0).u32be(next >= names.length ? 1 : 0);
  return undefined;
}

function encode({ served, mount }: Node, name: string, kind: NodeKind, cookie: number, plus: boolean): Buffer {
  const entry = writeOpaque(new ByteWriter(256).u32be(1).u64be(BigInt(kind)), Buffer.from(name)).u64be(BigInt(cookie));
  if (plus) {
    writePostAttributes(entry, served, kind);
    writeOpaque(entry.u32be(1), served.handle(kind, mount));
  }
  return entry.finish();
}
