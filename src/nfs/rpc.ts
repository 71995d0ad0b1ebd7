import { ByteReader, ByteWriter } from "../base/bytes.ts";
import { crc32 } from "../base/crc32.ts";
import { VmRestoreError } from "../base/errors.ts";
import { GarbageArgumentsError, readOpaque } from "./xdr.ts";

/** ONC RPC version 2 (RFC 5531): calls, and the answers that say why there is none. */

const CALL = 0;
const REPLY = 1;
const MSG_ACCEPTED = 0;
const MSG_DENIED = 1;
const RPC_VERSION = 2;
const RPC_MISMATCH = 0;
const AUTH_ERROR = 1;
const AUTH_BADCRED = 1;
const AUTH_NONE = 0;
const AUTH_SYS = 1;
const AUTH_LIMIT = 400;
const STAMP_BYTES = 4;
const MACHINE_NAME_LIMIT = 255;
const GROUPS_LIMIT = 16;

/** Bytes of an accepted reply before the procedure's results. */
export const ACCEPTED_HEAD_BYTES = 24;

export const ACCEPT = {
  success: 0,
  programUnavailable: 1,
  programMismatch: 2,
  procedureUnavailable: 3,
  garbageArguments: 4,
  systemError: 5,
} as const;

/** Who calls, as it says itself: AUTH_SYS is no proof, so it only decides file permissions. */
export interface Credentials {
  readonly uid: number;
  readonly gids: readonly number[];
  /** The machine's name; empty where it has none (AUTH_NONE). One character a byte, so that different names stay different. */
  readonly machine: string;
  /** A number of name and uid: the same from wherever, and over whichever connection, they come. */
  readonly caller: number;
}

export const NOBODY: Credentials = { uid: 65534, gids: [], machine: "", caller: 0 };

/** A call that is answered without being looked at further (MSG_DENIED). */
export class RpcDeniedError extends VmRestoreError {
  readonly reply: Buffer;

  constructor(detail: string, reply: ByteWriter) {
    super("NFS_RPC_DENIED", detail);
    this.reply = reply.finish();
  }
}

export interface RpcCall {
  readonly xid: number;
  readonly program: number;
  readonly version: number;
  readonly procedure: number;
  readonly credentials: Credentials;
  /** Stands at the procedure's arguments. */
  readonly args: ByteReader;
}

/** The calls of one connection bear the same credentials again and again: they are parsed once. */
export class KnownCredentials {
  #rest: Buffer = Buffer.alloc(0);
  #parsed: Credentials | undefined;

  /** @param body of AUTH_SYS. Undefined where it is malformed */
  parse(body: Buffer): Credentials | undefined {
    // The stamp before it may be another in each call.
    const rest = body.subarray(STAMP_BYTES);
    if (this.#parsed !== undefined && this.#rest.equals(rest)) return this.#parsed;
    const parsed = parseAuthSys(body);
    if (parsed === undefined) return undefined;
    this.#rest = Buffer.from(rest);
    this.#parsed = parsed;
    return parsed;
  }
}

/** @throws TruncatedError, GarbageArgumentsError where it is no call at all; RpcDeniedError where it is none of ours */
export function parseCall(record: Buffer, known = new KnownCredentials()): RpcCall {
  const reader = new ByteReader(record);
  const xid = reader.u32be();
  if (reader.u32be() !== CALL) throw new GarbageArgumentsError("not a call");
  if (reader.u32be() !== RPC_VERSION) {
    const versions = denied(xid, RPC_MISMATCH).u32be(RPC_VERSION).u32be(RPC_VERSION);
    throw new RpcDeniedError("another version of RPC", versions);
  }
  const program = reader.u32be();
  const version = reader.u32be();
  const procedure = reader.u32be();
  const flavor = reader.u32be();
  const body = readOpaque(reader, AUTH_LIMIT);
  reader.skip(4);
  readOpaque(reader, AUTH_LIMIT);
  const credentials = flavor === AUTH_NONE ? NOBODY : flavor === AUTH_SYS ? known.parse(body) : undefined;
  if (credentials === undefined)
    throw new RpcDeniedError("credentials of no use", denied(xid, AUTH_ERROR).u32be(AUTH_BADCRED));
  return { xid, program, version, procedure, credentials, args: reader };
}

/** RFC 5531, appendix A: at most 16 further groups. Undefined where it is malformed. */
function parseAuthSys(body: Buffer): Credentials | undefined {
  try {
    const reader = new ByteReader(body);
    reader.skip(STAMP_BYTES);
    const name = readOpaque(reader, MACHINE_NAME_LIMIT);
    const uid = reader.u32be();
    const gids = [reader.u32be()];
    const count = reader.u32be();
    if (count > GROUPS_LIMIT) return undefined;
    for (let index = 0; index < count; index++) gids.push(reader.u32be());
    return { uid, gids, machine: name.toString("latin1"), caller: crc32(`uid ${uid}`, crc32(name)) };
  } catch {
    return undefined;
  }
}

/** The head of an accepted reply; the procedure's results follow where `status` is success. */
export function acceptedReply(xid: number, status: number): ByteWriter {
  return new ByteWriter(256).u32be(xid).u32be(REPLY).u32be(MSG_ACCEPTED).u32be(0).u32be(0).u32be(status);
}

/** The program is known, but only in versions `low` to `high`. */
export function programMismatch(xid: number, low: number, high: number): Buffer {
  return acceptedReply(xid, ACCEPT.programMismatch).u32be(low).u32be(high).finish();
}

function denied(xid: number, reason: number): ByteWriter {
  return new ByteWriter(32).u32be(xid).u32be(REPLY).u32be(MSG_DENIED).u32be(reason);
}
