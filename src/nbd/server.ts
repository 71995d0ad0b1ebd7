import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { createServer as createTlsServer, type TLSSocket } from "node:tls";
import { ReadBuffers } from "../base/read-buffers.ts";
import type { TlsFiles } from "../base/tls-files.ts";
import { TurnBudget } from "../base/turn-budget.ts";
import { NbdError } from "./errors.ts";
import type { NbdExport } from "./export.ts";
import { negotiate } from "./handshake.ts";
import { type NbdCounters, newCounters, Transmission } from "./transmission.ts";

const HANDSHAKE_LIMIT_MS = 10_000;
const CONNECTION_LIMIT = 256;
/** Half of all: strangers who only hold their place leave room for the others. */
const HANDSHAKES_AT_ONCE = 128;

interface NbdServerOptions {
  /** Where set, nothing is told or served without TLS and a client certificate. */
  readonly tls?: TlsFiles;
  /** Milliseconds for a whole negotiation, TLS included; 10,000 unless given. */
  readonly handshakeTimeoutMs?: number;
  /** Negotiations at once; 128 unless given. One more ends the one that has taken longest. */
  readonly handshakesAtOnce?: number;
}

/** An NBD server: fixed newstyle, structured replies, block status (doc/proto.md of the NBD project). */
export class NbdServer {
  readonly counters: NbdCounters = newCounters();
  /** Handshakes that failed: no certificate, no export, no protocol. */
  refused = 0;
  readonly #buffers = new ReadBuffers();
  readonly #longReads = new TurnBudget();
  readonly #exports = new Map<string, NbdExport>();
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** Those that negotiate, the oldest first. */
  readonly #negotiating = new Set<Socket>();
  readonly #handshakeTimeoutMs: number;
  readonly #handshakesAtOnce: number;
  readonly #startTls: ((plain: Duplex) => Promise<Duplex>) | undefined;

  constructor(options: NbdServerOptions = {}) {
    this.#startTls = options.tls === undefined ? undefined : tlsStarter(options.tls);
    this.#handshakeTimeoutMs = options.handshakeTimeoutMs ?? HANDSHAKE_LIMIT_MS;
    this.#handshakesAtOnce = options.handshakesAtOnce ?? HANDSHAKES_AT_ONCE;
    this.#server = createServer({ noDelay: true, keepAlive: true, keepAliveInitialDelay: 60_000 }, (socket) =>
      this.#serve(socket),
    );
    this.#server.maxConnections = CONNECTION_LIMIT;
  }

  addExport(target: NbdExport): void {
    this.#exports.set(target.name, target);
  }

  get openConnections(): number {
    return this.#sockets.size;
  }

  /** @returns the port, where it listens on one */
  async listen(
    where: { readonly address: string; readonly port: number } | { readonly path: string },
  ): Promise<number> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      const ready = (): void => {
        this.#server.off("error", reject);
        resolve();
      };
      if ("path" in where) this.#server.listen(where.path, ready);
      else this.#server.listen(where.port, where.address, ready);
    });
    const bound = this.#server.address();
    return typeof bound === "string" ? 0 : ((bound as AddressInfo | null)?.port ?? 0);
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  #serve(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on("error", () => socket.destroy());
    socket.once("close", () => this.#sockets.delete(socket));
    const [oldest] = this.#negotiating;
    if (oldest !== undefined && this.#negotiating.size >= this.#handshakesAtOnce) {
      this.#negotiating.delete(oldest);
      oldest.destroy();
    }
    this.#negotiating.add(socket);
    const timer = setTimeout(() => socket.destroy(), this.#handshakeTimeoutMs);
    negotiate(socket, { exports: () => this.#exports.values(), startTls: this.#startTls })
      .then((negotiated) => {
        if (negotiated === undefined) return;
        new Transmission(negotiated, this.counters, this.#buffers, this.#longReads).start();
      })
      .catch(() => {
        this.refused++;
        socket.destroy();
      })
      .finally(() => {
        clearTimeout(timer);
        this.#negotiating.delete(socket);
      });
  }
}

/**
 * Upgrades accepted sockets. A TLS server that never listens does it, one for each socket, and not a bare TLSSocket: only the
 * server refuses clients whose certificate is not of the authority.
 */
function tlsStarter(options: TlsFiles): (plain: Duplex) => Promise<Duplex> {
  return (plain) =>
    new Promise((resolve, reject) => {
      const server = createTlsServer({
        ...options,
        requestCert: true,
        rejectUnauthorized: true,
        minVersion: "TLSv1.2",
      });
      server.once("secureConnection", (secure: TLSSocket) => {
        secure.setNoDelay(true);
        secure.on("error", () => secure.destroy());
        resolve(secure);
      });
      plain.once("close", () => reject(new NbdError("NBD_REFUSED", "the TLS handshake failed")));
      server.emit("connection", plain);
    });
}
