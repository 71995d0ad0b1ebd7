import { randomBytes } from "node:crypto";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { addressGate } from "./address-gate.ts";
import { kernelBytes } from "./arrival.ts";
import { ByteBudget } from "./call-lane.ts";
import { NfsConnection } from "./connection.ts";
import { DuplicateCache } from "./duplicate-cache.ts";
import type { NfsExport } from "./export.ts";
import { openHandle, serverTag } from "./handle.ts";
import type { Node } from "./procedures/procedure.ts";
import { ReplyBuffers } from "./reply-buffers.ts";
import { ServedExport } from "./served-export.ts";

/** Far above what nodes of a cluster need, far below what would hurt. */
const CONNECTION_LIMIT = 1024;
/** Connections that wait until there is something to serve. Nothing is read from them. */
const HELD_LIMIT = 128;
/** What the reads of all connections, and the writes, may hold together. */
const READ_BUDGET = 64 * 1024 * 1024;
const WRITE_BUDGET = 64 * 1024 * 1024;
const SWEEP_MS = 1000;
/** The Linux client's own patience is 60 s, unless its mount says otherwise (timeo). */
const PATIENCE_MS = 50_000;

export interface NfsServerOptions {
  /** An error that a client only sees as "I/O error". */
  readonly onError?: (error: unknown) => void;
  /** Told once: when a client that had shown a path or handle of ours got its first answer, in milliseconds since the epoch. */
  readonly onFirstAnswer?: (at: number) => void;
  /** Milliseconds since the epoch. */
  readonly now?: () => number;
  /** Milliseconds that never go back. */
  readonly monotonic?: () => number;
  /** Tells this server's handles from those of every other server; the same after a restart. */
  readonly identity?: string;
  /** Addresses and networks that may connect; everybody unless given. */
  readonly clients?: readonly string[];
  /** Milliseconds before a read that still waits is put off ("try later"): less than the client's timeout. 50,000 unless given. */
  readonly patienceMs?: number;
  /** Connections at once; 1024 unless given. One more ends the oldest that has shown neither path nor handle, or itself. */
  readonly connections?: number;
}

/** Counted since the start. */
export interface NfsCounters {
  calls: number;
  reads: number;
  writes: number;
  bytesRead: number;
  bytesWritten: number;
  /** Handles and paths that were not made here, or not any more; connections from addresses that are not allowed. */
  refused: number;
  /** Reads that were answered with "try later". */
  putOff: number;
  /** Connections that were closed because they showed nothing, stopped in the middle of a call, or took no answers. */
  abandoned: number;
}

/** NFS version 3 and MOUNT version 3 over TCP on one port (RFC 1813), serving files that something else provides. */
export class NfsServer {
  readonly counters: NfsCounters = newCounters();
  readonly readBudget = new ByteBudget(READ_BUDGET);
  readonly writeBudget = new ByteBudget(WRITE_BUDGET);
  readonly patienceMs: number;
  readonly kernelBytes = kernelBytes();
  /** New for each start: a client sends again what it wrote unstably to an earlier one. */
  readonly verifier = randomBytes(8);
  readonly buffers = new ReplyBuffers();
  readonly duplicates = new DuplicateCache(() => this.now());
  /** When connections were looked after last: the time, cheaply, as of a second ago at most. */
  lastSweep: number;
  readonly #sweeping: NodeJS.Timeout;
  readonly #options: NfsServerOptions;
  readonly #server: Server;
  readonly #byPath = new Map<string, ServedExport>();
  readonly #byTag = new Map<string, ServedExport>();
  readonly #targets = new Map<string, NfsExport>();
  readonly #tag: Buffer;
  readonly #connections = new Set<NfsConnection>();
  /** When a client with a path or handle of ours was answered last, in milliseconds since the epoch; undefined before any was. */
  lastAnswer: number | undefined;
  #draining = false;
  /** Connections that came before there was something to serve; undefined once there is. */
  #held: Set<Socket> | undefined;

  /** @throws AddressListError */
  constructor(options: NfsServerOptions = {}) {
    this.#options = options;
    this.#tag = serverTag(options.identity ?? "");
    this.patienceMs = options.patienceMs ?? PATIENCE_MS;
    this.lastSweep = this.now();
    const allows = addressGate(options.clients ?? []);
    this.#server = createServer(
      { noDelay: true, keepAlive: true, keepAliveInitialDelay: 60_000, pauseOnConnect: true },
      (socket) => {
        const isAllowed = allows(socket.remoteAddress ?? "");
        if (!isAllowed || this.#draining || !this.#makeRoom()) {
          if (!isAllowed) this.counters.refused++;
          socket.destroy();
          return;
        }
        if (this.#held === undefined) this.#connect(socket);
        else this.#holdBack(this.#held, socket);
      },
    );
    this.#sweeping = setInterval(() => this.#sweep(), Math.min(SWEEP_MS, this.patienceMs / 5));
    this.#sweeping.unref();
  }

  /** Milliseconds that never go back. */
  now(): number {
    return this.#options.monotonic?.() ?? performance.now();
  }

  /**
   * Accepts connections and answers nothing yet, until {@link release}: a client that is refused comes back after ever longer delays, one
   * that is connected waits for its answer.
   */
  hold(): void {
    this.#held ??= new Set();
  }

  /** There is something to serve: those that waited are answered. */
  release(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    for (const socket of held) this.#connect(socket);
  }

  /** @returns the port */
  async listen(address: string, port: number): Promise<number> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(port, address, () => {
        this.#server.off("error", reject);
        resolve();
      });
    });
    return (this.#server.address() as AddressInfo).port;
  }

  addExport(target: NfsExport): void {
    const served = new ServedExport(target, this.#tag, this.#options.now ?? Date.now);
    this.#byPath.set(target.path, served);
    this.#byTag.set(served.tag, served);
    this.#targets.set(served.tag, target);
  }

  /** Its handles are stale from now on; connections that used it are closed. */
  removeExport(path: string): void {
    const served = this.#byPath.get(path);
    if (served === undefined) return;
    this.#byPath.delete(path);
    this.#byTag.delete(served.tag);
    this.#targets.delete(served.tag);
    for (const connection of this.#connections) connection.closeIfUsed(served);
  }

  /** Open connections that have used the export at this path. */
  connectionsOf(path: string): number {
    return this.#byPath.get(path)?.connections ?? 0;
  }

  get openConnections(): number {
    return this.#connections.size + (this.#held?.size ?? 0);
  }

  findPath(path: string): ServedExport | undefined {
    // libnfs asks with a slash at the end.
    const served = this.#byPath.get(path.replace(/\/+$/, ""));
    if (served === undefined) this.counters.refused++;
    return served;
  }

  /**
   * What a handle stands for. One of another server means that the connection has reached the wrong one (an agent's address is
   * another's after a while): an answer would break a mount that is well.
   *
   * @throws ForeignHandleError
   */
  resolve(handle: Buffer): Node | undefined {
    let opened: ReturnType<typeof openHandle>;
    try {
      opened = openHandle(handle, this.#tag, this.#targets);
    } catch (error) {
      this.counters.refused++;
      throw error;
    }
    const served = opened === undefined ? undefined : this.#byPath.get(opened.target.path);
    if (opened === undefined || served === undefined) {
      this.counters.refused++;
      return undefined;
    }
    return { served, kind: opened.kind, mount: opened.mount };
  }

  isServed(served: ServedExport): boolean {
    return this.#byTag.get(served.tag) === served;
  }

  report(error: unknown): void {
    this.#options.onError?.(error);
  }

  /** Answers went to a client with a path or handle of ours. */
  answered(): void {
    const at = (this.#options.now ?? Date.now)();
    if (this.lastAnswer === undefined) this.#options.onFirstAnswer?.(at);
    this.lastAnswer = at;
  }

  /** Takes no new calls, and waits until those under way are answered, but no longer than so many milliseconds. */
  async drain(limitMs: number): Promise<void> {
    this.#draining = true;
    const over = new Promise<void>((resolve) => setTimeout(resolve, limitMs).unref());
    const drained = Promise.all([...this.#connections].map((connection) => connection.drain()));
    await Promise.race([drained, over]);
  }

  async close(): Promise<void> {
    clearInterval(this.#sweeping);
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#held ?? []) socket.destroy();
    for (const connection of this.#connections) connection.destroy();
    await closed;
  }

  #connect(socket: Socket): void {
    if (socket.destroyed) return;
    const connection = new NfsConnection(socket, this);
    this.#connections.add(connection);
    socket.once("close", () => this.#connections.delete(connection));
    socket.resume();
  }

  /** One more than may wait ends the oldest: its client comes again. */
  #holdBack(held: Set<Socket>, socket: Socket): void {
    const [oldest] = held;
    if (held.size >= HELD_LIMIT) oldest?.destroy();
    held.add(socket);
    socket.once("close", () => held.delete(socket));
    socket.on("error", () => socket.destroy());
  }

  /** Whether one more connection may be served. Strangers who only hold a place give it up. */
  #makeRoom(): boolean {
    if (this.#connections.size < (this.#options.connections ?? CONNECTION_LIMIT)) return true;
    for (const connection of this.#connections) {
      if (connection.isProven) continue;
      this.counters.abandoned++;
      this.#connections.delete(connection);
      connection.destroy();
      return true;
    }
    return false;
  }

  #sweep(): void {
    this.lastSweep = this.now();
    for (const connection of this.#connections) connection.sweep(this.lastSweep);
  }
}

function newCounters(): NfsCounters {
  return { calls: 0, reads: 0, writes: 0, bytesRead: 0, bytesWritten: 0, refused: 0, putOff: 0, abandoned: 0 };
}
