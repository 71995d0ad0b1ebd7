import { randomBytes } from "node:crypto";
import { type AddressInfo, createServer, type Server } from "node:net";
import { NfsConnection } from "./connection.ts";
import { DuplicateCache } from "./duplicate-cache.ts";
import type { NfsExport } from "./export.ts";
import { openHandle } from "./handle.ts";
import type { Node } from "./procedures/procedure.ts";
import { ServedExport } from "./served-export.ts";

/** Far above what nodes of a cluster need, far below what would hurt. */
const CONNECTION_LIMIT = 1024;

export interface NfsServerOptions {
  /** An error that a client only sees as "I/O error". */
  readonly onError?: (error: unknown) => void;
  /** Milliseconds since the epoch. */
  readonly now?: () => number;
}

/** Counted since the start. */
export interface NfsCounters {
  calls: number;
  reads: number;
  writes: number;
  bytesRead: number;
  bytesWritten: number;
  /** Handles and paths that were not made here, or not any more. */
  refused: number;
}

/** NFS version 3 and MOUNT version 3 over TCP on one port (RFC 1813), serving files that something else provides. */
export class NfsServer {
  readonly counters: NfsCounters = { calls: 0, reads: 0, writes: 0, bytesRead: 0, bytesWritten: 0, refused: 0 };
  readonly duplicates = new DuplicateCache();
  /** New for each start: a client sends again what it wrote unstably to an earlier one. */
  readonly verifier = randomBytes(8);
  readonly #options: NfsServerOptions;
  readonly #server: Server;
  readonly #byPath = new Map<string, ServedExport>();
  readonly #byTag = new Map<string, ServedExport>();
  readonly #targets = new Map<string, NfsExport>();
  readonly #connections = new Set<NfsConnection>();

  constructor(options: NfsServerOptions = {}) {
    this.#options = options;
    this.#server = createServer({ noDelay: true, keepAlive: true, keepAliveInitialDelay: 60_000 }, (socket) => {
      const connection = new NfsConnection(socket, this);
      this.#connections.add(connection);
      socket.once("close", () => this.#connections.delete(connection));
    });
    this.#server.maxConnections = CONNECTION_LIMIT;
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
    const served = new ServedExport(target, this.#options.now ?? Date.now);
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
    return this.#connections.size;
  }

  findPath(path: string): ServedExport | undefined {
    // libnfs asks with a slash at the end.
    const served = this.#byPath.get(path.replace(/\/+$/, ""));
    if (served === undefined) this.counters.refused++;
    return served;
  }

  resolve(handle: Buffer): Node | undefined {
    const opened = openHandle(handle, this.#targets);
    const served = opened === undefined ? undefined : this.#byPath.get(opened.target.path);
    if (opened === undefined || served === undefined) {
      this.counters.refused++;
      return undefined;
    }
    return { served, kind: opened.kind };
  }

  isServed(served: ServedExport): boolean {
    return this.#byTag.get(served.tag) === served;
  }

  report(error: unknown): void {
    this.#options.onError?.(error);
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const connection of this.#connections) connection.destroy();
    await closed;
  }
}
