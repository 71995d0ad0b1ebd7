import { connect as connectTcp, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { connect as connectTls } from "node:tls";
import { ByteQueue } from "../base/byte-queue.ts";
import { ByteReader, ByteWriter } from "../base/bytes.ts";
import { type Deferred, deferred } from "../base/deferred.ts";
import { ByteStream } from "./byte-stream.ts";
import { NbdError } from "./errors.ts";
import type { NbdExtent } from "./export.ts";
import {
  CHUNK,
  CHUNK_DONE,
  CMD,
  CMD_FLAG,
  EXTENT_LIMIT,
  HANDSHAKE_FLAG,
  IHAVEOPT,
  INFO,
  NBDMAGIC,
  OPT,
  OPTION_REPLY_MAGIC,
  PAYLOAD_LIMIT,
  REP,
  REQUEST_MAGIC,
  STRUCTURED_REPLY_MAGIC,
} from "./protocol.ts";

/** Silence after which TCP asks whether the server is there: one that is may take its time with an answer, one that vanished says nothing. */
const KEEPALIVE_MS = 30_000;
const OPTION_REPLY_LIMIT = 64 * 1024;
const HEAD_BYTES = 20;
const OFFSET_BYTES = 8;
/** Pieces of one read that do not follow one another. */
const PIECES_LIMIT = 4096;
const CHUNK_LIMIT = PAYLOAD_LIMIT + 64;

export interface NbdClientOptions {
  readonly host: string;
  readonly port: number;
  readonly exportName: string;
  /** Beside `base:allocation`. */
  readonly contexts?: readonly string[];
  /** PEM, our certificate and the authority of the server's, which must bear `servername`, or `host` without it. */
  readonly tls?: { readonly key: string; readonly cert: string; readonly ca: string; readonly servername?: string };
  /** Milliseconds for connecting and negotiating. */
  readonly timeout?: number;
}

interface Pending {
  readonly done: Deferred<void>;
  /** Where a read's data goes, and the offset of its first byte. */
  readonly into: Buffer | undefined;
  readonly offset: number;
  /** Bytes of {@link into} that came. */
  covered: number;
  /** Where they are; neighbours that came in order are one. */
  readonly came: { readonly from: number; to: number }[];
  readonly extents: Map<number, NbdExtent[]>;
  failure: NbdError | undefined;
}

/** A piece of a read whose bytes are still on their way. */
interface Arriving {
  readonly cookie: bigint;
  readonly pending: Pending;
  readonly isLast: boolean;
  readonly into: Buffer;
  at: number;
  left: number;
}

/** A client that reads and asks for block status: what relocation needs. Everything the server says is checked. */
export class NbdClient {
  readonly size: number;
  readonly #stream: Duplex;
  readonly #contexts: ReadonlyMap<string, number>;
  readonly #queue = new ByteQueue();
  readonly #pending = new Map<bigint, Pending>();
  #arriving: Arriving | undefined;
  #cookie = 0n;
  #closed: NbdError | undefined;

  private constructor(stream: Duplex, size: number, contexts: ReadonlyMap<string, number>, ahead: Buffer) {
    this.#stream = stream;
    this.size = size;
    this.#contexts = contexts;
    stream.on("data", (piece: Buffer) => this.#receive(piece));
    stream.on("close", () => this.#fail(new NbdError("NBD_DISCONNECTED", "the NBD server closed the connection")));
    stream.on("error", (cause) =>
      this.#fail(new NbdError("NBD_DISCONNECTED", "the connection to the NBD server broke", { cause })),
    );
    stream.resume();
    this.#receive(ahead);
  }

  /** @throws NbdError NBD_DISCONNECTED, NBD_REFUSED, NBD_PROTOCOL, NBD_TIMEOUT */
  static async connect(options: NbdClientOptions): Promise<NbdClient> {
    const socket = connectTcp({ host: options.host, port: options.port, noDelay: true });
    socket.setKeepAlive(true, KEEPALIVE_MS);
    socket.on("error", () => socket.destroy());
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      socket.destroy();
    }, options.timeout ?? 10_000);
    try {
      return await handshake(socket, options, (...parts) => new NbdClient(...parts));
    } catch (error) {
      socket.destroy();
      if (isLate) throw new NbdError("NBD_TIMEOUT", "the NBD server did not answer in time", { cause: error });
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  get closed(): boolean {
    return this.#closed !== undefined;
  }

  /**
   * Exactly `length` bytes, at most 32 MiB.
   *
   * @param buffer where they go, and what is given back a part of; a new one unless given
   */
  async read(offset: number, length: number, buffer?: Buffer): Promise<Buffer> {
    if (length > Math.min(PAYLOAD_LIMIT, buffer?.length ?? length)) throw new RangeError(`a read of ${length} bytes`);
    const into = buffer?.subarray(0, length) ?? Buffer.allocUnsafeSlow(length);
    const pending = this.#request(CMD.read, 0, offset, length, into);
    await pending.done.promise;
    if (pending.covered !== length) throw new NbdError("NBD_PROTOCOL", "the server left out part of a read");
    return into;
  }

  /** The extents of a context from `offset`; covers at least one byte, perhaps not all of `length`. */
  async blockStatus(context: string, offset: number, length: number): Promise<NbdExtent[]> {
    const id = this.#contexts.get(context);
    if (id === undefined) throw new NbdError("NBD_REFUSED", `the server does not offer ${context}`);
    const pending = this.#request(CMD.blockStatus, 0, offset, length, undefined);
    await pending.done.promise;
    const extents = pending.extents.get(id);
    if (extents === undefined || extents.length === 0)
      throw new NbdError("NBD_PROTOCOL", "a block status without extents");
    return extents;
  }

  async write(offset: number, data: Buffer, fua: boolean): Promise<void> {
    await this.#request(CMD.write, fua ? CMD_FLAG.fua : 0, offset, data.length, undefined, data).done.promise;
  }

  async flush(): Promise<void> {
    await this.#request(CMD.flush, 0, 0, 0, undefined).done.promise;
  }

  close(): void {
    if (!this.#stream.destroyed) this.#stream.end(requestHead(CMD.disc, 0, 0n, 0, 0));
    this.#stream.destroy();
  }

  #request(
    type: number,
    flags: number,
    offset: number,
    length: number,
    into: Buffer | undefined,
    payload?: Buffer,
  ): Pending {
    if (this.#closed !== undefined) throw this.#closed;
    const cookie = this.#cookie++;
    const pending: Pending = {
      done: deferred(),
      into,
      offset,
      covered: 0,
      came: [],
      extents: new Map(),
      failure: undefined,
    };
    this.#pending.set(cookie, pending);
    this.#stream.write(requestHead(type, flags, cookie, offset, length));
    if (payload !== undefined) this.#stream.write(payload);
    return pending;
  }

  #receive(piece: Buffer): void {
    // The buffers of failed reads are somebody else's by now.
    if (this.#closed !== undefined) return;
    this.#queue.push(piece);
    try {
      while (this.#next()) {
        // One chunk a turn.
      }
    } catch (cause) {
      const error =
        cause instanceof NbdError ? cause : new NbdError("NBD_PROTOCOL", "the server's answer is malformed", { cause });
      this.#fail(error);
      this.#stream.destroy();
    }
  }

  #next(): boolean {
    if (this.#arriving !== undefined) return this.#takeData(this.#arriving);
    if (this.#queue.length < HEAD_BYTES) return false;
    const head = this.#queue.peek(HEAD_BYTES);
    if (head.readUInt32BE(0) !== STRUCTURED_REPLY_MAGIC)
      throw new NbdError("NBD_PROTOCOL", "an answer without its magic");
    const isLast = (head.readUInt16BE(4) & CHUNK_DONE) !== 0;
    const type = head.readUInt16BE(6);
    const cookie = head.readBigUInt64BE(8);
    const length = head.readUInt32BE(16);
    if (length > CHUNK_LIMIT) throw new NbdError("NBD_PROTOCOL", `an answer of ${length} bytes`);
    const pending = this.#pending.get(cookie);
    if (pending === undefined) throw new NbdError("NBD_PROTOCOL", "an answer to nothing that was asked");
    // Data goes to its place as it comes; everything else is taken whole.
    const wanted = type === CHUNK.offsetData ? Math.min(length, OFFSET_BYTES) : length;
    if (this.#queue.length < HEAD_BYTES + wanted) return false;
    this.#queue.take(HEAD_BYTES);
    const body = this.#queue.take(wanted);
    if (type === CHUNK.offsetData) {
      const { into, at } = place(pending, new ByteReader(body).u64be(), length - OFFSET_BYTES);
      this.#arriving = { cookie, pending, isLast, into, at, left: length - OFFSET_BYTES };
      return true;
    }
    takeChunk(pending, type, body);
    if (isLast) this.#finish(cookie, pending);
    return true;
  }

  #takeData(arriving: Arriving): boolean {
    while (arriving.left > 0 && this.#queue.length > 0) {
      const some = this.#queue.takeSome(arriving.left);
      some.copy(arriving.into, arriving.at);
      arriving.at += some.length;
      arriving.left -= some.length;
      arriving.pending.covered += some.length;
    }
    if (arriving.left > 0) return false;
    this.#arriving = undefined;
    if (arriving.isLast) this.#finish(arriving.cookie, arriving.pending);
    return true;
  }

  #finish(cookie: bigint, pending: Pending): void {
    this.#pending.delete(cookie);
    if (pending.failure === undefined) pending.done.resolve();
    else pending.done.reject(pending.failure);
  }

  #fail(error: NbdError): void {
    this.#closed ??= error;
    for (const pending of this.#pending.values()) pending.done.reject(this.#closed);
    this.#pending.clear();
  }
}

function takeChunk(pending: Pending, type: number, body: Buffer): void {
  const reader = new ByteReader(body);
  if (type === CHUNK.none) return;
  if (type === CHUNK.error || type === CHUNK.errorOffset) {
    const code = reader.u32be();
    const message = reader.bytes(reader.u16be()).toString("utf8");
    pending.failure = new NbdError("NBD_IO", `the server answered with error ${code}: ${message}`);
    return;
  }
  if (type === CHUNK.blockStatus) {
    const id = reader.u32be();
    const count = Math.min(EXTENT_LIMIT, Math.floor(reader.remaining / 8));
    const extents = Array.from({ length: count }, () => ({ length: reader.u32be(), flags: reader.u32be() }));
    if (extents.some((extent) => extent.length === 0)) throw new NbdError("NBD_PROTOCOL", "an extent of no bytes");
    pending.extents.set(id, extents);
    return;
  }
  if (type !== CHUNK.offsetHole) throw new NbdError("NBD_PROTOCOL", `an unknown answer (${type})`);
  const offset = reader.u64be();
  const length = reader.u32be();
  const { into, at } = place(pending, offset, length);
  into.fill(0, at, at + length);
  pending.covered += length;
}

/** Where a piece of a read belongs. @throws NbdError NBD_PROTOCOL where it was not asked for or came before */
function place(pending: Pending, offset: bigint, length: number): { into: Buffer; at: number } {
  const at = Number(offset) - pending.offset;
  const to = at + length;
  const { into, came } = pending;
  if (into === undefined || at < 0 || length <= 0 || to > into.length)
    throw new NbdError("NBD_PROTOCOL", "data that was not asked for");
  const last = came.at(-1);
  if (came.some((other) => at < other.to && other.from < to))
    throw new NbdError("NBD_PROTOCOL", "data that came before");
  if (last?.to === at) last.to = to;
  else came.push({ from: at, to });
  if (came.length > PIECES_LIMIT) throw new NbdError("NBD_PROTOCOL", "data in too many pieces");
  return { into, at };
}

function requestHead(type: number, flags: number, cookie: bigint, offset: number, length: number): Buffer {
  const head = new ByteWriter(28).u32be(REQUEST_MAGIC).u16be(flags).u16be(type).u64be(cookie);
  return head.u64be(BigInt(offset)).u32be(length).finish();
}

async function handshake<T>(
  socket: Socket,
  options: NbdClientOptions,
  finish: (stream: Duplex, size: number, contexts: ReadonlyMap<string, number>, ahead: Buffer) => T,
): Promise<T> {
  let stream = new ByteStream(socket);
  const hello = new ByteReader(await stream.read(18));
  if (hello.u64be() !== NBDMAGIC || hello.u64be() !== IHAVEOPT)
    throw new NbdError("NBD_PROTOCOL", "this is no NBD server");
  if ((hello.u16be() & HANDSHAKE_FLAG.noZeroes) === 0) throw new NbdError("NBD_PROTOCOL", "the server is too old");
  stream.write(new ByteWriter(16).u32be(HANDSHAKE_FLAG.fixedNewstyle | HANDSHAKE_FLAG.noZeroes).finish());

  if (options.tls !== undefined) {
    await ask(stream, OPT.startTls, Buffer.alloc(0));
    if (stream.detach().length > 0) throw new NbdError("NBD_PROTOCOL", "data before the TLS handshake");
    stream = new ByteStream(await secure(socket, options.host, options.tls));
  }
  await ask(stream, OPT.structuredReply, Buffer.alloc(0));

  const name = Buffer.from(options.exportName);
  const query = new ByteWriter().u32be(name.length).bytes(name);
  const wanted = ["base:allocation", ...(options.contexts ?? [])];
  query.u32be(wanted.length);
  for (const context of wanted) query.u32be(Buffer.byteLength(context)).bytes(Buffer.from(context));
  const contexts = new Map<string, number>();
  for (const { type, body } of await ask(stream, OPT.setMetaContext, query.finish())) {
    if (type === REP.metaContext && body.length >= 4) contexts.set(body.toString("utf8", 4), body.readUInt32BE(0));
  }

  let size: number | undefined;
  for (const { type, body } of await ask(
    stream,
    OPT.go,
    new ByteWriter().u32be(name.length).bytes(name).u16be(0).finish(),
  )) {
    if (type === REP.info && body.length >= 12 && body.readUInt16BE(0) === INFO.export)
      size = Number(body.readBigUInt64BE(2));
  }
  if (size === undefined || !Number.isSafeInteger(size))
    throw new NbdError("NBD_PROTOCOL", "the server did not tell the export's size");
  return finish(stream.stream, size, contexts, stream.detach());
}

/** Sends an option; gives back its replies before the final ACK. */
async function ask(stream: ByteStream, option: number, body: Buffer): Promise<{ type: number; body: Buffer }[]> {
  stream.write(new ByteWriter(16 + body.length).u64be(IHAVEOPT).u32be(option).u32be(body.length).bytes(body).finish());
  const replies: { type: number; body: Buffer }[] = [];
  for (let count = 0; count < 256; count++) {
    const head = new ByteReader(await stream.read(20));
    if (head.u64be() !== OPTION_REPLY_MAGIC || head.u32be() !== option)
      throw new NbdError("NBD_PROTOCOL", "a reply to another option");
    const type = head.u32be();
    const length = head.u32be();
    if (length > OPTION_REPLY_LIMIT) throw new NbdError("NBD_PROTOCOL", `an option reply of ${length} bytes`);
    const content = await stream.read(length);
    if (type === REP.ack) return replies;
    if (type >= 0x80000000) {
      throw new NbdError("NBD_REFUSED", `the server refused option ${option} (error ${type - 0x80000000})`, {
        hint: "Check the export's name, and the client certificate where the server asks for one.",
      });
    }
    replies.push({ type, body: content });
  }
  throw new NbdError("NBD_PROTOCOL", "too many option replies");
}

function secure(socket: Socket, host: string, tls: NonNullable<NbdClientOptions["tls"]>): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    const encrypted = connectTls({ host, ...tls, socket, minVersion: "TLSv1.2" }, () => resolve(encrypted));
    encrypted.once("error", (cause) => reject(new NbdError("NBD_REFUSED", "the TLS handshake failed", { cause })));
    encrypted.once("close", () => reject(new NbdError("NBD_DISCONNECTED", "the server closed the connection")));
  });
}
