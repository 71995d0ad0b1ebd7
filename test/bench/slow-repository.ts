import { randomUUID } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { setTimeout as delay } from "node:timers/promises";

/** One link for all requests: each answer waits `delayMs`, and all of them together pass `bytesPerSecond`. */
export interface Link {
  readonly delayMs: number;
  readonly bytesPerSecond: number;
}

const TYPES = new Set(["data", "keys", "locks", "snapshots", "index"]);
const PIECE = 64 * 1024;

/**
 * Serves a restic repository's directory with the REST protocol behind a fixed delay and bandwidth cap, so that every
 * contender of a benchmark reads the same repository over the same link. Loopback only.
 */
export class SlowRepository {
  readonly #directory: string;
  readonly #server: Server;
  #link: Link;
  /** When the link is free again, in `performance.now()` time. */
  #freeAt = 0;
  #bytes = 0;
  #requests = 0;

  private constructor(directory: string, link: Link) {
    this.#directory = directory;
    this.#link = link;
    this.#server = createServer((request, response) => {
      this.#answer(request, response).catch(() => response.destroy());
    });
  }

  /** @param port any that is free, unless given */
  static async start(directory: string, link: Link, port = 0): Promise<SlowRepository> {
    const repository = new SlowRepository(directory, link);
    await new Promise<void>((resolve) => repository.#server.listen(port, "127.0.0.1", resolve));
    return repository;
  }

  /** The URL as our own backend takes it; restic wants `rest:` before it. */
  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/`;
  }

  setLink(link: Link): void {
    this.#link = link;
  }

  /** Bytes and requests since the last call. */
  takeCounters(): { bytes: number; requests: number } {
    const counters = { bytes: this.#bytes, requests: this.#requests };
    this.#bytes = 0;
    this.#requests = 0;
    return counters;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.#requests++;
    await delay(this.#link.delayMs);
    const [type = "", name, ...more] = new URL(request.url ?? "/", "http://x").pathname.split("/").filter(Boolean);
    const isConfig = type === "config" && name === undefined;
    if (!isConfig && (!TYPES.has(type) || more.length > 0 || !/^[0-9a-f]{64}$|^$/.test(name ?? ""))) {
      response.writeHead(404).end();
      return;
    }
    if (name === undefined && !isConfig) await this.#list(type, response);
    else if (request.method === "POST") await this.#save(this.#path(type, name), request, response);
    else if (request.method === "DELETE") {
      await rm(this.#path(type, name), { force: true });
      response.writeHead(200).end();
    } else await this.#send(this.#path(type, name), request, response);
  }

  #path(type: string, name = ""): string {
    if (type === "config") return join(this.#directory, "config");
    return join(this.#directory, type, ...(type === "data" ? [name.slice(0, 2)] : []), name);
  }

  async #list(type: string, response: ServerResponse): Promise<void> {
    const entries = await readdir(join(this.#directory, type), { withFileTypes: true, recursive: true });
    const files = entries.filter((entry) => entry.isFile());
    const listed = await Promise.all(
      files.map(async (file) => ({ name: file.name, size: (await stat(join(file.parentPath, file.name))).size })),
    );
    response.writeHead(200, { "Content-Type": "application/vnd.x.restic.rest.v2" }).end(JSON.stringify(listed));
  }

  async #save(path: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const pieces: Buffer[] = [];
    for await (const piece of request) pieces.push(piece as Buffer);
    await mkdir(join(path, ".."), { recursive: true });
    const temporary = `${path}.${randomUUID()}`;
    await writeFile(temporary, Buffer.concat(pieces));
    await rename(temporary, path);
    response.writeHead(200).end();
  }

  async #send(path: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const size = await stat(path).then(
      (found) => found.size,
      () => undefined,
    );
    if (size === undefined) {
      response.writeHead(404).end();
      return;
    }
    const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
    const start = range === null ? 0 : Number(range[1]);
    const end = range?.[2] ? Math.min(Number(range[2]), size - 1) : size - 1;
    response.writeHead(range === null ? 200 : 206, {
      "Content-Length": Math.max(0, end - start + 1),
      ...(range === null ? {} : { "Content-Range": `bytes ${start}-${end}/${size}` }),
    });
    if (request.method === "HEAD" || size === 0) {
      response.end();
      return;
    }
    const pieces = createReadStream(path, { start, end, highWaterMark: PIECE });
    // A client that goes in the middle ends the whole chain; that is its own affair.
    await pipeline(pieces, (source: AsyncIterable<Buffer>) => this.#shaped(source), response).catch(() => undefined);
  }

  async *#shaped(pieces: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const piece of pieces) {
      const now = performance.now();
      this.#freeAt = Math.max(now, this.#freeAt) + (piece.length / this.#link.bytesPerSecond) * 1000;
      this.#bytes += piece.length;
      // Timers are no finer than a millisecond: shorter waits are let through and made up for by the next ones.
      if (this.#freeAt - now > 1) await delay(this.#freeAt - now);
      yield piece;
    }
  }
}
