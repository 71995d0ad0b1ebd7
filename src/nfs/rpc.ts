import { ByteReader, ByteWriter } from "../base/bytes.ts";
import { GarbageArgumentsError, readOpaque } from "./xdr.ts";

/** ONC RPC version 2 (RFC 5531): calls, and the answers that say why there is none. */

const CALL = 0;
const REPLY = 1;
const MSG_ACCEPTED = 0;
const MSG_DENIED = 1;
const AUTH_SYS = 1;
const AUTH_LIMIT = 400;

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
}

const NOBODY: Credentials = { uid: 65534, gids: [] };

export interface RpcCall {
  readonly xid: number;
  readonly rpcVersion: number;
  readonly program: number;
  readonly version: number;
  readonly procedure: number;
  readonly credentials: Credentials;
  /** Stands at the procedure's arguments. */
  readonly args: ByteReader;
}

/** @throws TruncatedError, GarbageArgumentsError where it is no call at all */
export function parseCall(record: Buffer): RpcCall {
  const reader = new ByteReader(record);
  const xid = reader.u32be();
  if (reader.u32be() !== CALL) throw new GarbageArgumentsError("not a call");
  const rpcVersion = reader.u32be();
  const program = reader.u32be();
  const version = reader.u32be();
  const procedure = reader.u32be();
  const flavor = reader.u32be();
  const body = readOpaque(reader, AUTH_LIMIT);
  reader.skip(4);
  readOpaque(reader, AUTH_LIMIT);
  const credentials = flavor === AUTH_SYS ? parseAuthSys(new ByteReader(body)) : NOBODY;
  return { xid, rpcVersion, program, version, procedure, credentials, args: reader };
}

function parseAuthSys(reader: ByteReader): Credentials {
  reader.skip(4);
  readOpaque(reader, 255);
  const uid = reader.u32be();
  const gids = [reader.u32be()];
  const count = Math.min(reader.u32be(), 16);
  for (let index = 0; index < count; index++) gids.push(reader.u32be());
  return { uid, gids };
}

/** The head of an accepted reply; the procedure's results follow where `status` is success. */
export function acceptedReply(xid: number, status: number): ByteWriter {
  return new ByteWriter(256).u32be(xid).u32be(REPLY).u32be(MSG_ACCEPTED).u32be(0).u32be(0).u32be(status);
}

/** The program is known, but only in versions `low` to `high`. */
export function programMismatch(xid: number, low: number, high: number): Buffer {
  return acceptedReply(xid, ACCEPT.programMismatch).u32be(low).u32be(high).finish();
}

/** Another version of RPC itself: only 2 is spoken. */
export function rpcMismatch(xid: number): Buffer {
  return new ByteWriter(32).u32be(xid).u32be(REPLY).u32be(MSG_DENIED).u32be(0).u32be(2).u32be(2).finish();
}
