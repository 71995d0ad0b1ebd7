import { errorCode } from "../base/errors.ts";
import type { ReceivedCall } from "./duplicate-cache.ts";
import { mountProcedure } from "./mount.ts";
import type { CallContext, Node } from "./procedures/procedure.ts";
import { NFS_PROCEDURES, PROCEDURE } from "./procedures/table.ts";
import { repeatWrite } from "./procedures/write.ts";
import type { ReplyBuffers } from "./reply-buffers.ts";
import { ACCEPT, acceptedReply, type Credentials, NOBODY, programMismatch, type RpcCall } from "./rpc.ts";
import type { ServedExport } from "./served-export.ts";
import type { NfsServer } from "./server.ts";

export const NFS = 100003;
export const MOUNT = 100005;
const VERSION = 3;
const KNOWN_HANDLES = 64;

/** Carries out one connection's calls, whatever their order and number. */
export class Dispatcher implements CallContext {
  readonly verifier: Buffer;
  readonly buffers: ReplyBuffers;
  /** Of the call that is being begun: procedures look at it before they wait for anything. */
  credentials: Credentials = NOBODY;
  /** Exports whose handles were used. */
  readonly used = new Set<ServedExport>();
  /** Whether the client has shown a path or a handle that was made here. */
  proven = false;
  readonly #server: NfsServer;
  /** Handles seen here and what they stand for: their MAC is checked once. */
  readonly #known = new Map<string, Node>();
  #last: { readonly handle: Buffer; readonly node: Node } | undefined;

  constructor(server: NfsServer) {
    this.#server = server;
    this.verifier = server.verifier;
    this.buffers = server.buffers;
  }

  /**
   * The reply to a call, at once where nothing has to be waited for. A rejection is an error of our own.
   *
   * @throws ForeignHandleError
   */
  answer(call: RpcCall, record: Buffer): Buffer[] | Promise<Buffer[]> {
    if (call.program !== NFS && call.program !== MOUNT)
      return [acceptedReply(call.xid, ACCEPT.programUnavailable).finish()];
    if (call.version !== VERSION) return [programMismatch(call.xid, VERSION, VERSION)];
    try {
      if (call.program === MOUNT) return this.#mount(call);
      return call.procedure === PROCEDURE.write ? this.#write(call, record) : this.#nfs(call);
    } catch (error) {
      const code = errorCode(error);
      if (code === "NFS_FOREIGN_HANDLE") throw error;
      const isGarbage = code === "NFS_GARBAGE_ARGS" || code === "TRUNCATED";
      if (!isGarbage) this.report(error);
      return [acceptedReply(call.xid, isGarbage ? ACCEPT.garbageArguments : ACCEPT.systemError).finish()];
    }
  }

  /** Whether a write is one that was sent before, over this connection or another, and is still under way. */
  isUnderWay(call: RpcCall, record: Buffer): boolean {
    return this.#server.duplicates.isRunning(received(call, record));
  }

  resolve(handle: Buffer): Node | undefined {
    const last = this.#last;
    if (last?.handle.equals(handle) && this.#server.isServed(last.node.served)) return last.node;
    const key = handle.toString("latin1");
    let node = this.#known.get(key);
    if (node === undefined || !this.#server.isServed(node.served)) {
      node = this.#server.resolve(handle);
      if (node === undefined) return undefined;
      if (this.#known.size >= KNOWN_HANDLES) this.#known.clear();
      this.#known.set(key, node);
    }
    this.#last = { handle: Buffer.from(handle), node };
    this.#use(node.served);
    return node;
  }

  report(error: unknown): void {
    this.#server.report(error);
  }

  /** The connection is gone. */
  close(): void {
    for (const served of this.used) served.connections--;
    this.used.clear();
    this.#known.clear();
    this.#last = undefined;
  }

  #use(served: ServedExport): void {
    this.proven = true;
    if (this.used.has(served)) return;
    this.used.add(served);
    served.connections++;
  }

  #mount(call: RpcCall): Buffer[] | Promise<Buffer[]> {
    const reply = acceptedReply(call.xid, ACCEPT.success);
    const isKnown = mountProcedure(call.procedure, call.args, reply, {
      machine: call.credentials.machine,
      findPath: (path) => {
        const served = this.#server.findPath(path);
        if (served !== undefined) this.proven = true;
        return served;
      },
    });
    if (isKnown instanceof Promise) return isKnown.then(() => [reply.finish()]);
    return [isKnown ? reply.finish() : acceptedReply(call.xid, ACCEPT.procedureUnavailable).finish()];
  }

  #write(call: RpcCall, record: Buffer): Buffer[] | Promise<Buffer[]> {
    return this.#server.duplicates.answer({
      ...received(call, record),
      connection: this,
      carryOut: () => this.#nfs(call),
      repeat: (status) => {
        this.credentials = call.credentials;
        const reply = acceptedReply(call.xid, ACCEPT.success);
        repeatWrite(call.args, reply, this, status);
        return [reply.finish()];
      },
    });
  }

  #nfs(call: RpcCall): Buffer[] | Promise<Buffer[]> {
    const procedure = NFS_PROCEDURES[call.procedure];
    if (procedure === undefined) return [acceptedReply(call.xid, ACCEPT.procedureUnavailable).finish()];
    const reply = acceptedReply(call.xid, ACCEPT.success);
    this.credentials = call.credentials;
    const results = procedure(call.args, reply, this);
    if (results === undefined) return [reply.finish()];
    return results.then((data) => {
      this.#count(call, data);
      return data === undefined ? [reply.finish()] : [reply.finish(), data];
    });
  }

  #count(call: RpcCall, data: Buffer | undefined): void {
    const { counters } = this.#server;
    if (call.procedure === PROCEDURE.read && data !== undefined) {
      counters.reads++;
      counters.bytesRead += data.length;
    } else if (call.procedure === PROCEDURE.write) {
      counters.writes++;
      counters.bytesWritten += call.args.offset;
    }
  }
}

function received({ credentials, xid, args }: RpcCall, record: Buffer): ReceivedCall {
  return { caller: credentials.caller, xid, record, argumentsAt: args.offset };
}
