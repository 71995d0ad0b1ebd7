import type { Socket } from "node:net";
import { errorCode } from "../base/errors.ts";
import { mountProcedure } from "./mount.ts";
import type { CallContext, Node } from "./procedures/procedure.ts";
import { NFS_PROCEDURES, WRITE_PROCEDURE } from "./procedures/table.ts";
import { RecordReader } from "./record-reader.ts";
import { ACCEPT, acceptedReply, parseCall, programMismatch, type RpcCall, rpcMismatch } from "./rpc.ts";
import type { ServedExport } from "./served-export.ts";
import type { NfsServer } from "./server.ts";

const NFS = 100003;
const MOUNT = 100005;
const VERSION = 3;
const READ_PROCEDURE = 6;
/** The largest WRITE and its head. */
const RECORD_LIMIT = 1024 * 1024 + 4096;
/** Calls carried out at once for one connection, and bytes of answers that the client has not taken yet. */
const CALLS_AT_ONCE = 64;
const UNSENT_LIMIT = 8 * 1024 * 1024;
const KNOWN_HANDLES = 64;
const LAST_FRAGMENT = 0x80000000;

/** One client's TCP connection: many calls at once, answered as they finish, bounded in number and bytes. */
export class NfsConnection {
  readonly #socket: Socket;
  readonly #server: NfsServer;
  readonly #reader = new RecordReader(RECORD_LIMIT);
  readonly #address: string;
  readonly #used = new Set<ServedExport>();
  /** Handles seen here and what they stand for: their MAC is checked once. */
  readonly #known = new Map<string, Node>();
  /** Calls that were read but not begun: at most those of one read from the socket. */
  #waiting: Buffer[] = [];
  #running = 0;
  #corked = false;

  constructor(socket: Socket, server: NfsServer) {
    this.#socket = socket;
    this.#server = server;
    this.#address = socket.remoteAddress ?? "";
    socket.on("data", (piece) => this.#receive(piece));
    socket.on("drain", () => this.#proceed());
    socket.on("error", () => socket.destroy());
    socket.once("close", () => {
      for (const served of this.#used) served.connections--;
      this.#used.clear();
      this.#waiting = [];
    });
  }

  closeIfUsed(served: ServedExport): void {
    if (this.#used.has(served)) this.destroy();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  #receive(piece: Buffer): void {
    try {
      for (const record of this.#reader.push(piece)) this.#waiting.push(record);
    } catch {
      this.destroy(); // whoever breaks record marking cannot be answered
      return;
    }
    this.#proceed();
  }

  /** Begins what may begin, and reads on only when nothing waits. */
  #proceed(): void {
    while (this.#waiting.length > 0 && this.#running < CALLS_AT_ONCE && this.#socket.writableLength < UNSENT_LIMIT) {
      this.#begin(this.#waiting.shift() as Buffer);
    }
    if (this.#waiting.length > 0) this.#socket.pause();
    else if (this.#socket.isPaused()) this.#socket.resume();
  }

  #begin(record: Buffer): void {
    let call: RpcCall;
    try {
      call = parseCall(record);
    } catch {
      this.destroy();
      return;
    }
    this.#server.counters.calls++;
    const answer = this.#answer(call, record);
    if (!(answer instanceof Promise)) {
      this.#send(answer);
      return;
    }
    this.#running++;
    answer
      .then(
        (pieces) => this.#send(pieces),
        (error: unknown) => {
          this.#server.report(error);
          this.destroy();
        },
      )
      .finally(() => {
        this.#running--;
        this.#proceed();
      });
  }

  #answer(call: RpcCall, record: Buffer): Buffer[] | Promise<Buffer[]> {
    if (call.rpcVersion !== 2) return [rpcMismatch(call.xid)];
    if (call.program !== NFS && call.program !== MOUNT)
      return [acceptedReply(call.xid, ACCEPT.programUnavailable).finish()];
    if (call.version !== VERSION) return [programMismatch(call.xid, VERSION, VERSION)];
    try {
      if (call.program === MOUNT) return this.#mount(call);
      if (call.procedure === WRITE_PROCEDURE) {
        return this.#server.duplicates.answer(this.#address, call, record, async () => {
          try {
            return await this.#nfs(call);
          } catch (error) {
            return refuseArguments(call, error);
          }
        });
      }
      return this.#nfs(call);
    } catch (error) {
      return refuseArguments(call, error);
    }
  }

  #mount(call: RpcCall): Buffer[] {
    const reply = acceptedReply(call.xid, ACCEPT.success);
    const isKnown = mountProcedure(call.procedure, call.args, reply, (path) => this.#server.findPath(path));
    return [isKnown ? reply.finish() : acceptedReply(call.xid, ACCEPT.procedureUnavailable).finish()];
  }

  #nfs(call: RpcCall): Buffer[] | Promise<Buffer[]> {
    const procedure = NFS_PROCEDURES[call.procedure];
    if (procedure === undefined) return [acceptedReply(call.xid, ACCEPT.procedureUnavailable).finish()];
    const reply = acceptedReply(call.xid, ACCEPT.success);
    const context: CallContext = {
      credentials: call.credentials,
      verifier: this.#server.verifier,
      resolve: (handle) => this.#resolve(handle),
      report: (error) => this.#server.report(error),
    };
    const results = procedure(call.args, reply, context);
    if (results === undefined) return [reply.finish()];
    return results.then((data) => {
      this.#count(call, data);
      return data === undefined ? [reply.finish()] : [reply.finish(), data];
    });
  }

  #count(call: RpcCall, data: Buffer | undefined): void {
    const { counters } = this.#server;
    if (call.procedure === READ_PROCEDURE && data !== undefined) {
      counters.reads++;
      counters.bytesRead += data.length;
    } else if (call.procedure === WRITE_PROCEDURE) {
      counters.writes++;
      counters.bytesWritten += call.args.offset;
    }
  }

  #resolve(handle: Buffer): Node | undefined {
    const key = handle.toString("latin1");
    const known = this.#known.get(key);
    if (known !== undefined && this.#server.isServed(known.served)) return known;
    const node = this.#server.resolve(handle);
    if (node === undefined) return undefined;
    if (this.#known.size >= KNOWN_HANDLES) this.#known.clear();
    this.#known.set(key, node);
    if (!this.#used.has(node.served) && !this.#socket.destroyed) {
      this.#used.add(node.served);
      node.served.connections++;
    }
    return node;
  }

  #send(pieces: readonly Buffer[]): void {
    if (this.#socket.destroyed) return;
    if (!this.#corked) {
      // Answers that are ready together leave together.
      this.#corked = true;
      this.#socket.cork();
      process.nextTick(() => {
        this.#corked = false;
        this.#socket.uncork();
      });
    }
    const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
    const mark = Buffer.allocUnsafe(4);
    mark.writeUInt32BE((LAST_FRAGMENT | length) >>> 0);
    this.#socket.write(mark);
    for (const piece of pieces) this.#socket.write(piece);
  }
}

function refuseArguments(call: RpcCall, error: unknown): Buffer[] {
  const isGarbage = errorCode(error) === "NFS_GARBAGE_ARGS" || errorCode(error) === "TRUNCATED";
  return [acceptedReply(call.xid, isGarbage ? ACCEPT.garbageArguments : ACCEPT.systemError).finish()];
}
