import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { ByteWriter } from "../base/bytes.ts";
import { ByteStream } from "./byte-stream.ts";
import { NbdError } from "./errors.ts";
import type { NbdExport } from "./export.ts";
import { type MetaContext, parseMetaContextQuery, selectContexts } from "./meta-context.ts";
import {
  HANDSHAKE_FLAG,
  IHAVEOPT,
  INFO,
  NBDMAGIC,
  OPT,
  OPTION_REPLY_MAGIC,
  PAYLOAD_LIMIT,
  REP,
  TRANSMISSION_FLAG,
} from "./protocol.ts";

const OPTION_LIMIT = 64 * 1024;
/** A client that haggles longer than that has no other aim. */
const OPTIONS = 128;

/** What a client agreed on with the server. */
export interface Negotiated {
  readonly target: NbdExport;
  readonly structured: boolean;
  readonly contexts: readonly MetaContext[];
  /** The socket to go on with: after STARTTLS it is another one. */
  readonly stream: Duplex;
  /** What the client sent behind the handshake. */
  readonly ahead: Buffer;
}

export interface HandshakeOptions {
  readonly exports: () => Iterable<NbdExport>;
  /** Takes the plain socket and gives the encrypted one once the client has proven itself. Where set, nothing goes without. */
  readonly startTls: ((plain: Duplex) => Promise<Duplex>) | undefined;
}

/** The flags of an export that clients are told. */
function transmissionFlags(target: NbdExport): number {
  const flag = TRANSMISSION_FLAG;
  const write = target.readOnly ? flag.readOnly : flag.sendFua | flag.sendTrim | flag.sendWriteZeroes;
  return flag.hasFlags | flag.sendFlush | flag.sendDf | flag.canMultiConn | flag.sendCache | write;
}

/**
 * The server's side of the fixed newstyle negotiation. Gives undefined where the client ends it; then the socket is closed.
 *
 * @throws NbdError NBD_PROTOCOL, NBD_DISCONNECTED, NBD_REFUSED
 */
export async function negotiate(socket: Duplex, options: HandshakeOptions): Promise<Negotiated | undefined> {
  const session = new Session(socket, options);
  return session.run();
}

class Session {
  #stream: ByteStream;
  readonly #options: HandshakeOptions;
  #encrypted = false;
  #structured = false;
  #contexts: MetaContext[] = [];
  #contextsFor: string | undefined;

  constructor(socket: Duplex, options: HandshakeOptions) {
    this.#stream = new ByteStream(socket);
    this.#options = options;
  }

  async run(): Promise<Negotiated | undefined> {
    const flags = HANDSHAKE_FLAG.fixedNewstyle | HANDSHAKE_FLAG.noZeroes;
    this.#stream.write(new ByteWriter(32).u64be(NBDMAGIC).u64be(IHAVEOPT).u16be(flags).finish());
    const clientFlags = (await this.#stream.read(4)).readUInt32BE();
    if ((clientFlags & ~flags) !== 0) throw new NbdError("NBD_PROTOCOL", "unknown client flags");
    const noZeroes = (clientFlags & HANDSHAKE_FLAG.noZeroes) !== 0;
    for (let count = 0; count < OPTIONS; count++) {
      const head = await this.#stream.read(16);
      if (head.readBigUInt64BE(0) !== IHAVEOPT) throw new NbdError("NBD_PROTOCOL", "an option without its magic");
      const option = head.readUInt32BE(8);
      const length = head.readUInt32BE(12);
      if (length > OPTION_LIMIT) throw new NbdError("NBD_PROTOCOL", `an option of ${length} bytes`);
      const body = await this.#stream.read(length);
      if (option === OPT.abort) {
        this.#reply(option, REP.ack);
        (this.#stream.stream as Socket).destroySoon();
        return undefined;
      }
      if (option === OPT.exportName) return this.#exportName(body, noZeroes);
      const target = await this.#option(option, body);
      if (target !== undefined) return this.#done(target);
    }
    throw new NbdError("NBD_PROTOCOL", "too many options");
  }

  /** The oldest way in: no errors can be told, so whatever is not right closes the connection. */
  #exportName(body: Buffer, noZeroes: boolean): Negotiated {
    const target = this.#find(body.toString("utf8"));
    if (target === undefined || this.#mustEncrypt)
      throw new NbdError("NBD_REFUSED", "no such export, or not without TLS");
    const answer = new ByteWriter(160).u64be(BigInt(target.size)).u16be(transmissionFlags(target));
    this.#stream.write(noZeroes ? answer.finish() : answer.zeros(124).finish());
    return this.#done(target);
  }

  /** Carries out one option; gives the export where it was GO and succeeded. */
  async #option(option: number, body: Buffer): Promise<NbdExport | undefined> {
    if (option === OPT.startTls) return this.#startTls(body);
    if (this.#mustEncrypt) {
      this.#reply(option, REP.errTlsReqd);
      return undefined;
    }
    switch (option) {
      case OPT.list:
        return this.#list(body);
      case OPT.info:
      case OPT.go:
        return this.#info(option, body);
      case OPT.structuredReply:
        this.#structured ||= body.length === 0;
        this.#reply(option, body.length === 0 ? REP.ack : REP.errInvalid);
        return undefined;
      case OPT.listMetaContext:
      case OPT.setMetaContext:
        return this.#metaContext(option, body);
      default:
        this.#reply(option, REP.errUnsup);
        return undefined;
    }
  }

  async #startTls(body: Buffer): Promise<undefined> {
    const { startTls } = this.#options;
    if (startTls === undefined || this.#encrypted || body.length > 0) {
      this.#reply(OPT.startTls, body.length > 0 || this.#encrypted ? REP.errInvalid : REP.errPolicy);
      return;
    }
    this.#reply(OPT.startTls, REP.ack);
    const plain = this.#stream.stream;
    // Whatever came in the clear behind STARTTLS could be somebody else's words.
    if (this.#stream.detach().length > 0) throw new NbdError("NBD_PROTOCOL", "data before the TLS handshake");
    this.#stream = new ByteStream(await startTls(plain));
    this.#encrypted = true;
    this.#structured = false;
    this.#contexts = [];
  }

  #list(body: Buffer): undefined {
    if (body.length > 0) {
      this.#reply(OPT.list, REP.errInvalid);
      return;
    }
    for (const { name } of this.#options.exports()) {
      const bytes = Buffer.from(name);
      this.#reply(OPT.list, REP.server, new ByteWriter().u32be(bytes.length).bytes(bytes).finish());
    }
    this.#reply(OPT.list, REP.ack);
  }

  #info(option: number, body: Buffer): NbdExport | undefined {
    const nameLength = body.length >= 6 ? body.readUInt32BE(0) : Number.POSITIVE_INFINITY;
    const isWhole =
      body.length >= 6 + nameLength && body.length === 6 + nameLength + 2 * body.readUInt16BE(4 + nameLength);
    if (!isWhole) {
      this.#reply(option, REP.errInvalid);
      return undefined;
    }
    const name = body.toString("utf8", 4, 4 + nameLength);
    const target = this.#find(name);
    if (target === undefined) {
      this.#reply(option, REP.errUnknown);
      return undefined;
    }
    const info = (type: number): ByteWriter => new ByteWriter(64).u16be(type);
    const send = (writer: ByteWriter): void => this.#reply(option, REP.info, writer.finish());
    send(info(INFO.export).u64be(BigInt(target.size)).u16be(transmissionFlags(target)));
    send(info(INFO.name).bytes(Buffer.from(target.name)));
    send(info(INFO.description).bytes(Buffer.from(target.description)));
    send(info(INFO.blockSize).u32be(1).u32be(4096).u32be(PAYLOAD_LIMIT));
    this.#reply(option, REP.ack);
    return option === OPT.go ? target : undefined;
  }

  #metaContext(option: number, body: Buffer): undefined {
    const query = parseMetaContextQuery(body);
    const isSetting = option === OPT.setMetaContext;
    if (isSetting) this.#contexts = [];
    const target = typeof query === "string" ? undefined : this.#find(query.exportName);
    if (query === "too many") this.#reply(option, REP.errTooBig);
    else if (query === "malformed" || (isSetting && !this.#structured)) this.#reply(option, REP.errInvalid);
    else if (target === undefined) this.#reply(option, REP.errUnknown);
    else {
      const contexts = selectContexts(target, query.queries, !isSetting);
      for (const { id, name } of contexts) {
        // A number means something only once it is selected.
        this.#reply(
          option,
          REP.metaContext,
          new ByteWriter()
            .u32be(isSetting ? id : 0)
            .bytes(Buffer.from(name))
            .finish(),
        );
      }
      if (isSetting) {
        this.#contexts = contexts;
        this.#contextsFor = target.name;
      }
      this.#reply(option, REP.ack);
    }
  }

  /** An empty name asks for the default: the only export, where there is one. */
  #find(name: string): NbdExport | undefined {
    const exports = [...this.#options.exports()];
    return name === "" && exports.length === 1 ? exports[0] : exports.find((target) => target.name === name);
  }

  get #mustEncrypt(): boolean {
    return this.#options.startTls !== undefined && !this.#encrypted;
  }

  #reply(option: number, type: number, body: Buffer = Buffer.alloc(0)): void {
    const head = new ByteWriter(32 + body.length)
      .u64be(OPTION_REPLY_MAGIC)
      .u32be(option)
      .u32be(type)
      .u32be(body.length);
    this.#stream.write(head.bytes(body).finish());
  }

  #done(target: NbdExport): Negotiated {
    return {
      target,
      structured: this.#structured,
      // They hold for the export for which they were set, however it is opened.
      contexts: this.#contextsFor === target.name ? this.#contexts : [],
      stream: this.#stream.stream,
      ahead: this.#stream.detach(),
    };
  }
}
