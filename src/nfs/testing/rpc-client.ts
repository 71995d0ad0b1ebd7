import { randomInt } from "node:crypto";
import { connect, type Socket } from "node:net";
import { ByteReader, ByteWriter } from "../../base/bytes.ts";
import { type Deferred, deferred } from "../../base/deferred.ts";
import { RecordReader } from "../record-reader.ts";
import { readOpaque, writeOpaque } from "../xdr.ts";

/** Who calls, as AUTH_SYS says it. */
interface CallerOptions {
  readonly uid?: number;
  readonly machine?: string;
}

/** A client that can send anything, also twice. */
export class RpcClient {
  readonly socket: Socket;
  /** The name under which it calls. */
  machine = "test";
  readonly #waiting = new Map<number, Deferred<ByteReader>[]>();
  /** As with real clients, nobody else's: the same call under the same XID is one that was sent again. */
  #xid = randomInt(2 ** 31);

  private constructor(socket: Socket) {
    this.socket = socket;
    const reader = new RecordReader(2 * 1024 * 1024);
    socket.on("data", (piece) => {
      for (const record of reader.push(piece)) {
        const xid = record.readUInt32BE();
        // However often a call was sent: one answer is all that it waits for.
        for (const waiter of this.#waiting.get(xid) ?? []) waiter.resolve(new ByteReader(record, 4));
        this.#waiting.delete(xid);
      }
    });
    const fail = (): void => {
      for (const waiters of this.#waiting.values())
        for (const waiter of waiters) waiter.reject(new Error("connection closed"));
      this.#waiting.clear();
    };
    socket.on("error", fail);
    socket.on("close", fail);
  }

  /** @param localAddress where it comes from */
  static async connect(port: number, host = "127.0.0.1", localAddress?: string): Promise<RpcClient> {
    const socket = connect({ port, host, ...(localAddress === undefined ? {} : { localAddress }) });
    await new Promise((resolve, reject) => socket.once("connect", resolve).once("error", reject));
    return new RpcClient(socket);
  }

  /** The whole record of a call, without its mark. */
  encode(program: number, procedure: number, args: Uint8Array, xid = this.#xid++, caller: CallerOptions = {}): Buffer {
    const { uid = 0, machine = this.machine } = caller;
    const auth = new ByteWriter();
    writeOpaque(auth.u32be(0), Buffer.from(machine)).u32be(uid).u32be(uid).u32be(0);
    const call = new ByteWriter().u32be(xid).u32be(0).u32be(2).u32be(program).u32be(3).u32be(procedure).u32be(1);
    return writeOpaque(call, auth.finish()).u32be(0).u32be(0).bytes(args).finish();
  }

  /** Sends a record, in one fragment or several; the reply stands behind its xid. */
  send(record: Buffer, fragmentBytes = record.length): Promise<ByteReader> {
    if (this.socket.destroyed) return Promise.reject(new Error("connection closed"));
    const answer = deferred<ByteReader>();
    const xid = record.readUInt32BE(0);
    this.#waiting.set(xid, [...(this.#waiting.get(xid) ?? []), answer]);
    for (let at = 0; at < record.length; at += fragmentBytes) {
      const piece = record.subarray(at, at + fragmentBytes);
      const mark = Buffer.alloc(4);
      mark.writeUInt32BE((piece.length | (at + fragmentBytes >= record.length ? 0x80000000 : 0)) >>> 0);
      this.socket.write(Buffer.concat([mark, piece]));
    }
    return answer.promise;
  }

  /** A call whose reply must be accepted; stands at the results. */
  async call(program: number, procedure: number, args: Uint8Array, uid = 0): Promise<ByteReader> {
    const reply = await this.send(this.encode(program, procedure, args, undefined, { uid }));
    reply.skip(16);
    const status = reply.u32be();
    if (status !== 0) throw new Error(`not accepted: ${status}`);
    return reply;
  }

  /** Mounts an export: the handle of its directory. */
  async mount(path: string): Promise<Buffer> {
    const mounted = await this.call(100005, 1, writeOpaque(new ByteWriter(), Buffer.from(path)).finish());
    if (mounted.u32be() !== 0) throw new Error("not mounted");
    return Buffer.from(readOpaque(mounted, 64));
  }

  /** The handle of the file in an export. Mounts it, unless the directory's handle of a mount is given. */
  async fileHandle(path: string, directory?: Buffer): Promise<Buffer> {
    const root = directory ?? (await this.mount(path));
    const looked = await this.call(
      100003,
      3,
      writeOpaque(writeOpaque(new ByteWriter(), root), Buffer.from("disk.img")).finish(),
    );
    if (looked.u32be() !== 0) throw new Error("no file");
    return Buffer.from(readOpaque(looked, 64));
  }

  writeArguments(handle: Buffer, offset: number, data: Uint8Array, stable: number): Buffer {
    const args = writeOpaque(new ByteWriter(), handle).u64be(BigInt(offset)).u32be(data.length).u32be(stable);
    return writeOpaque(args, data).finish();
  }

  close(): void {
    this.socket.destroy();
  }

  /** Closes it when its test is over: who still waits for an answer waits on, and no later test hears of it. */
  abandon(): void {
    this.#waiting.clear();
    this.socket.destroy();
  }
}
