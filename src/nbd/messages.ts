import { ByteWriter } from "../base/bytes.ts";
import type { NbdExtent } from "./export.ts";
import { CHUNK, CHUNK_DONE, REQUEST_MAGIC, SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC } from "./protocol.ts";

/** Of an error's text. */
const TEXT_LIMIT = 512;

/** What a client asks for in the transmission phase; a write's payload follows. */
export interface Request {
  readonly flags: number;
  readonly type: number;
  readonly cookie: bigint;
  /** One beyond 2^53 is that: no disk is so large. */
  readonly offset: number;
  readonly length: number;
}

/** @param head `REQUEST_BYTES` bytes. Undefined where they are no request */
export function parseRequest(head: Buffer): Request | undefined {
  if (head.readUInt32BE(0) !== REQUEST_MAGIC) return undefined;
  const offset = head.readBigUInt64BE(16);
  return {
    flags: head.readUInt16BE(4),
    type: head.readUInt16BE(6),
    cookie: head.readBigUInt64BE(8),
    offset: offset > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(offset),
    length: head.readUInt32BE(24),
  };
}

/** @param error 0 or an NBD error number. After a read's 0 its data follows */
export function simpleReply(cookie: bigint, error: number): Buffer {
  return new ByteWriter(16).u32be(SIMPLE_REPLY_MAGIC).u32be(error).u64be(cookie).finish();
}

/** The last chunk of a structured reply that has no more to say. */
export function doneChunk(cookie: bigint): Buffer {
  return chunk(cookie, CHUNK.none, CHUNK_DONE, 0).finish();
}

/** What comes before `length` bytes of data. @param flags CHUNK_DONE for the last chunk, else 0 */
export function dataHead(cookie: bigint, flags: number, offset: number, length: number): Buffer {
  return chunk(cookie, CHUNK.offsetData, flags, 8 + length)
    .u64be(BigInt(offset))
    .finish();
}

/** `length` zeros. */
export function holeChunk(cookie: bigint, flags: number, offset: number, length: number): Buffer {
  return chunk(cookie, CHUNK.offsetHole, flags, 12).u64be(BigInt(offset)).u32be(length).finish();
}

/** @param context the id that was negotiated for a metadata context */
export function blockStatusChunk(
  cookie: bigint,
  flags: number,
  context: number,
  extents: readonly NbdExtent[],
): Buffer {
  const reply = chunk(cookie, CHUNK.blockStatus, flags, 4 + extents.length * 8).u32be(context);
  for (const extent of extents) reply.u32be(extent.length).u32be(extent.flags);
  return reply.finish();
}

/** The last chunk of a reply that failed. @param message for people; it is cut off */
export function errorChunk(cookie: bigint, error: number, message: string): Buffer {
  const text = Buffer.from(message.slice(0, TEXT_LIMIT));
  return chunk(cookie, CHUNK.error, CHUNK_DONE, 6 + text.length)
    .u32be(error)
    .u16be(text.length)
    .bytes(text)
    .finish();
}

function chunk(cookie: bigint, type: number, flags: number, length: number): ByteWriter {
  return new ByteWriter(64).u32be(STRUCTURED_REPLY_MAGIC).u16be(flags).u16be(type).u64be(cookie).u32be(length);
}
