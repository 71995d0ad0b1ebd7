import { createHash, timingSafeEqual } from "node:crypto";
import { once } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer } from "node:https";
import { PEERS_LIMIT } from "../../api/peers.ts";
import { errorCode } from "../../base/errors.ts";
import type { Logger } from "../../base/logging.ts";
import type { TlsFiles } from "../../base/tls-files.ts";
import type { BlobPlace } from "../../repository/repository.ts";
import { listen } from "../listen.ts";
import { ASKER_HEADER, ASKS_PER_PEER } from "./peer-client.ts";

/** Read from the cache and sent at a time: all that is in memory of an answer. */
const PIECE = 256 * 1024;
/** A connection on which nothing moves for so long is closed, in milliseconds. */
const IDLE_MS = 60_000;
/** Blobs that wait to be fetched for others, of those that nobody waits for. */
const AHEAD_LIMIT = 32;
/** The same with those that others wait for, who may have gone since: more than all of them can wait for at once. */
const WAITING_LIMIT = PEERS_LIMIT * ASKS_PER_PEER;

/** The blobs of an agent's disks, as others may have them. */
export interface SharedBlobs {
  /** Undefined where it is of none of the disks. */
  place(id: string): BlobPlace | undefined;
  has(id: string): boolean;
  read(id: string, offset: number, length: number): Promise<Buffer | undefined>;
  /** Fetches it from the repository into the cache, when nothing of this agent's own is more urgent. */
  stage(id: string): Promise<void>;
  /** Undefined where it is not on its way from the repository. */
  fetching(id: string): Promise<void> | undefined;
  /** How many wait to be fetched for others. */
  readonly waiting: number;
}

export interface PeerServerOptions {
  readonly address: string;
  readonly port: number;
  readonly tls: Pick<TlsFiles, "key" | "cert">;
  /** What an agent of the group shows; undefined for everybody else. */
  readonly tokenOf: (asker: string) => string | undefined;
  /** Undefined until the disks are open. */
  readonly blobs: () => SharedBlobs | undefined;
  /** A blob was given to another agent. */
  readonly onGiven: (bytes: number) => void;
  readonly log: Logger;
}

/**
 * Gives blobs to the agents of the group, and nothing to anybody else: `GET /v1/blobs/{id}`, with `?now` or `?cached` for what need not be
 * fetched first (see `AskMode`). Never waits for another agent to fetch one: of two that did, each would wait for the other. 200 with the plain bytes, 204: not now, 404: of none of
 * our disks, 403: not of the group, 503: not at this time.
 *
 * @returns a function that closes it
 */
export async function servePeers(options: PeerServerOptions): Promise<() => Promise<void>> {
  const { tls, address, port, log } = options;
  const askers = new Map<string, number>();
  const server = createServer(
    { key: tls.key, cert: tls.cert, minVersion: "TLSv1.2", handshakeTimeout: 5000 },
    (request, response) => {
      answer(options, askers, request, response).catch((error: unknown) => {
        log.warn({ code: errorCode(error) }, "a blob was not given");
        response.destroy();
      });
    },
  );
  server.maxConnections = 2 * PEERS_LIMIT * ASKS_PER_PEER;
  server.headersTimeout = 5000;
  server.requestTimeout = 10_000;
  server.keepAliveTimeout = IDLE_MS;
  server.setTimeout(IDLE_MS);
  return listen(server, address, port);
}

async function answer(
  options: PeerServerOptions,
  askers: Map<string, number>,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const asker = authenticated(options, request);
  if (asker === undefined) return refuse(request, response, 403);
  const asked = /^\/v1\/blobs\/([0-9a-f]{64})(?:\?(now|cached))?$/.exec(request.url ?? "");
  if (request.method !== "GET" || asked === null) return refuse(request, response, 404);
  const blobs = options.blobs();
  const underWay = askers.get(asker) ?? 0;
  if (blobs === undefined || underWay >= ASKS_PER_PEER) return refuse(request, response, 503);
  const [, id = "", quick] = asked;
  askers.set(asker, underWay + 1);
  try {
    const place = blobs.place(id);
    if (place === undefined) return refuse(request, response, 404);
    if (!(await isHere(blobs, id, quick, response))) {
      return refuse(request, response, quick === undefined ? 503 : 204);
    }
    if (await send(blobs, id, place.length, response)) options.onGiven(place.length);
  } finally {
    const left = (askers.get(asker) ?? 1) - 1;
    if (left === 0) askers.delete(asker);
    else askers.set(asker, left);
  }
}

/** Who asks, where it is one of the group and shows that it is. */
function authenticated({ tokenOf }: PeerServerOptions, { headers }: IncomingMessage): string | undefined {
  const asker = headers[ASKER_HEADER];
  if (typeof asker !== "string") return undefined;
  const expected = tokenOf(asker);
  const shown = headers.authorization ?? "";
  return expected !== undefined && timingSafeEqual(digest(shown), digest(`Bearer ${expected}`)) ? asker : undefined;
}

/** Of one length, whatever was sent. */
function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}

async function isHere(
  blobs: SharedBlobs,
  id: string,
  quick: string | undefined,
  response: ServerResponse,
): Promise<boolean> {
  if (blobs.has(id)) return true;
  const mayStage = quick === undefined && blobs.waiting < WAITING_LIMIT;
  const fetching = mayStage ? blobs.stage(id) : blobs.fetching(id);
  if (fetching === undefined) {
    // Others of the group will want it, too: the next one finds it.
    if (quick === "now" && blobs.waiting < AHEAD_LIMIT) blobs.stage(id).catch(() => undefined);
    return false;
  }
  // Whoever has gone waits no longer; the blob is fetched all the same.
  const gone = new AbortController();
  await Promise.race([
    fetching.catch(() => undefined),
    once(response, "close", { signal: gone.signal }).catch(() => undefined),
  ]);
  gone.abort();
  return blobs.has(id);
}

/** @returns whether all of it was sent; a blob that leaves the cache meanwhile is cut off */
async function send(blobs: SharedBlobs, id: string, length: number, response: ServerResponse): Promise<boolean> {
  for (let offset = 0; offset < length && !response.destroyed; offset += PIECE) {
    const piece = await blobs.read(id, offset, Math.min(PIECE, length - offset));
    if (piece === undefined) {
      response.destroy();
      return false;
    }
    if (offset === 0) response.writeHead(200, { "content-length": length, "content-type": "application/octet-stream" });
    if (!response.write(piece) && !response.destroyed) await writable(response);
  }
  if (response.destroyed) return false;
  response.end();
  return true;
}

async function writable(response: ServerResponse): Promise<void> {
  const settled = new AbortController();
  const { signal } = settled;
  const either = ["drain", "close"].map((event) => once(response, event, { signal }).catch(() => undefined));
  await Promise.race(either);
  settled.abort();
}

function refuse(request: IncomingMessage, response: ServerResponse, status: number): void {
  // What was not read of a body would be taken for the next request.
  if (!request.complete) response.setHeader("connection", "close");
  response.writeHead(status, status === 204 ? {} : { "content-length": 0 }).end();
}
