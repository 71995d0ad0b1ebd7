import type { ByteReader, ByteWriter } from "../../base/bytes.ts";
import { writePostAttributes, writeWcc } from "../attributes.ts";
import type { NodeKind } from "../handle.ts";
import type { ReplyBuffers } from "../reply-buffers.ts";
import type { Credentials } from "../rpc.ts";
import type { ServedExport } from "../served-export.ts";
import { NFS3 } from "../status.ts";
import { readOpaque } from "../xdr.ts";

/** Largest READ and WRITE, in bytes. */
export const TRANSFER_LIMIT = 1024 * 1024;
const HANDLE_LIMIT = 64;

/** One file or directory that a handle stands for. */
export interface Node {
  readonly served: ServedExport;
  readonly kind: NodeKind;
  /** The number of the mount whose handle it was. */
  readonly mount: number;
}

/** What a procedure has at hand. All of it is of the call only until the procedure has returned its promise. */
export interface CallContext {
  readonly credentials: Credentials;
  /** One for each start of the server (RFC 1813, section 3.3.7). */
  readonly verifier: Buffer;
  readonly buffers: ReplyBuffers;
  /**
   * The node of a handle, or undefined where it is forged, or its export is gone; counts the refusal.
   *
   * @throws ForeignHandleError where another server has made it
   */
  resolve(handle: Buffer): Node | undefined;
  /** Tells of an error that the client only sees as "I/O error". */
  report(error: unknown): void;
}

/**
 * Reads its arguments and appends its results to `reply`, which has the RPC head already. Gives back further bytes that
 * follow without being copied.
 */
export type Procedure = (
  args: ByteReader,
  reply: ByteWriter,
  context: CallContext,
) => Promise<Buffer | undefined> | undefined;

/** The node that the next argument, a file handle, stands for. */
export function readNode(args: ByteReader, context: CallContext): Node | undefined {
  return context.resolve(readOpaque(args, HANDLE_LIMIT));
}

/** The status of a handle that was not made here, or whose export is gone. */
export const REFUSED_HANDLE = NFS3.stale;

/** Results that are a status and post_op_attr. */
export function failWithAttributes(reply: ByteWriter, status: number, node: Node | undefined): undefined {
  reply.u32be(status);
  if (node === undefined) reply.u32be(0);
  else writePostAttributes(reply, node.served, node.kind);
  return undefined;
}

/** Results that are a status and wcc_data. */
export function failWithWcc(reply: ByteWriter, status: number, node: Node | undefined): undefined {
  reply.u32be(status);
  if (node === undefined) reply.u32be(0).u32be(0);
  else writeWcc(reply, node.served, node.kind);
  return undefined;
}

/** Whether the caller may read and write the file: mode 0660, and root, which stands for the hypervisor. */
export function mayUse(credentials: Credentials, { target }: ServedExport): boolean {
  return credentials.uid === 0 || credentials.uid === target.uid || credentials.gids.includes(target.gid);
}
