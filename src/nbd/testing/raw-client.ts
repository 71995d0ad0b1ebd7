import { connect, type Socket } from "node:net";
import { ByteWriter } from "../../base/bytes.ts";
import { ByteStream } from "../byte-stream.ts";
import { IHAVEOPT, OPT, REP, REQUEST_MAGIC, SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC } from "../protocol.ts";

export interface OptionReply {
  readonly type: number;
  readonly body: Buffer;
}

export interface RawReply {
  readonly cookie: bigint;
  /** Of a structured reply. */
  readonly type?: number;
  readonly flags?: number;
  readonly body: Buffer;
  /** Of a simple reply. */
  readonly error?: number;
}

/** Says exactly what a test tells it to, right or wrong, and hears what the server answers. */
export class RawClient {
  readonly socket: Socket;
  readonly #stream: ByteStream;

  private constructor(socket: Socket) {
    this.socket = socket;
    this.#stream = new ByteStream(socket);
  }

  /** Connects and takes the server's greeting. */
  static async connect(port: number, clientFlags = 3): Promise<RawClient> {
    const socket = connect({ port, host: "127.0.0.1" });
    socket.on("error", () => socket.destroy());
    const client = new RawClient(socket);
    await client.read(18);
    client.send(new ByteWriter(16).u32be(clientFlags).finish());
    return client;
  }

  send(bytes: Uint8Array): void {
    this.#stream.write(Buffer.from(bytes));
  }

  read(length: number): Promise<Buffer> {
    return this.#stream.read(length);
  }

  /** Sends an option and gathers its replies, the last one included. */
  async option(type: number, body: Buffer = Buffer.alloc(0)): Promise<OptionReply[]> {
    this.send(new ByteWriter().u64be(IHAVEOPT).u32be(type).u32be(body.length).bytes(body).finish());
    const replies: OptionReply[] = [];
    for (;;) {
      const head = await this.read(20);
      const reply = { type: head.readUInt32BE(12), body: await this.read(head.readUInt32BE(16)) };
      replies.push(reply);
      if (reply.type === REP.ack || reply.type >= 0x80000000) return replies;
    }
  }

  /** NBD_OPT_GO. */
  go(name: string): Promise<OptionReply[]> {
    return this.option(OPT.go, infoBody(name));
  }

  request(type: number, cookie: number, offset: number | bigint, length: number, flags = 0): void {
    const head = new ByteWriter(32).u32be(REQUEST_MAGIC).u16be(flags).u16be(type).u64be(BigInt(cookie));
    this.send(head.u64be(BigInt(offset)).u32be(length).finish());
  }

  /** A chunk of a structured reply. */
  async chunk(): Promise<RawReply> {
    const head = await this.read(20);
    if (head.readUInt32BE(0) !== STRUCTURED_REPLY_MAGIC) throw new Error("no structured reply");
    const body = await this.read(head.readUInt32BE(16));
    return { flags: head.readUInt16BE(4), type: head.readUInt16BE(6), cookie: head.readBigUInt64BE(8), body };
  }

  /** @param length bytes of payload that follow on success */
  async simple(length: number): Promise<RawReply> {
    const head = await this.read(16);
    if (head.readUInt32BE(0) !== SIMPLE_REPLY_MAGIC) throw new Error("no simple reply");
    const error = head.readUInt32BE(4);
    return { error, cookie: head.readBigUInt64BE(8), body: await this.read(error === 0 ? length : 0) };
  }

  close(): void {
    this.socket.destroy();
  }
}

/** The body of INFO and GO. */
export function infoBody(name: string): Buffer {
  const bytes = Buffer.from(name);
  return new ByteWriter().u32be(bytes.length).bytes(bytes).u16be(0).finish();
}

/** The body of LIST_META_CONTEXT and SET_META_CONTEXT. */
export function contextBody(name: string, queries: readonly string[]): Buffer {
  const writer = new ByteWriter().u32be(Buffer.byteLength(name)).bytes(Buffer.from(name)).u32be(queries.length);
  for (const query of queries) writer.u32be(Buffer.byteLength(query)).bytes(Buffer.from(query));
  return writer.finish();
}
