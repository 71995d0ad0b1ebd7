import { createHash } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { Agent, request } from "node:https";
import { finished } from "node:stream/promises";
import type { Peer } from "../../api/peers.ts";
import type { Clock } from "../../base/clock.ts";
import { errorCode } from "../../base/errors.ts";
import { PeerError } from "./peer-error.ts";

/** The header that says which restore's agent asks. */
export const ASKER_HEADER = "x-vmrestore-peer";
/** Requests to one agent at once, and what it takes from one. */
export const ASKS_PER_PEER = 16;
/** For the connection, TLS included: where there is nobody any more, that is soon known. */
const CONNECT_MS = 2000;

/** What is asked for. */
export interface BlobRequest {
  /** 64 hex digits. */
  readonly id: string;
  /** Bytes, as our own index says. */
  readonly length: number;
  readonly mode: AskMode;
}

/**
 * `Fetch`: it is waited for until the other agent has it, which fetches it if need be. `Now`: only if it is there, or on its way from the
 * repository; else the other agent is to fetch it for those who ask next. `Cached`: the same, and else nothing.
 */
export type AskMode = "Fetch" | "Now" | "Cached";

const QUERIES: Readonly<Record<AskMode, string>> = { Fetch: "", Now: "?now", Cached: "?cached" };

/** Where another agent's blobs are asked for. */
export interface BlobClient {
  /** Bytes that are what was asked for, in a buffer of their own. @throws PeerError, and the signal's reason */
  fetch(blob: BlobRequest, signal: AbortSignal): Promise<Buffer>;
  close(): void;
}

/** One other agent, over TLS. It may be anybody's until its certificate is checked, and what it sends is hostile until its hash is. */
export class PeerClient implements BlobClient {
  readonly #peer: Peer;
  readonly #asker: string;
  readonly #clock: Clock;
  readonly #agent: Agent;

  /** @param asker uid of this agent's VMRestore */
  constructor(peer: Peer, asker: string, clock: Clock) {
    this.#peer = peer;
    this.#asker = asker;
    this.#clock = clock;
    this.#agent = new Agent({
      ca: peer.ca,
      minVersion: "TLSv1.2",
      keepAlive: true,
      maxSockets: ASKS_PER_PEER,
      maxFreeSockets: 4,
    });
  }

  async fetch(blob: BlobRequest, signal: AbortSignal): Promise<Buffer> {
    const ended = new AbortController();
    try {
      const incoming = await this.#send(blob, AbortSignal.any([signal, ended.signal]));
      await refuseUnless(incoming, blob);
      return await receive(incoming, blob);
    } catch (error) {
      if (error instanceof PeerError) throw error;
      if (signal.aborted) throw signal.reason;
      throw new PeerError("PEER_REFUSED", `agent ${this.#peer.id}: ${errorCode(error) ?? "connection lost"}`);
    } finally {
      // Of an answer that is not wanted, nothing more is read.
      ended.abort();
    }
  }

  close(): void {
    this.#agent.destroy();
  }

  #send({ id, mode }: BlobRequest, signal: AbortSignal): Promise<IncomingMessage> {
    const { host, port, token } = this.#peer;
    return new Promise((resolve, reject) => {
      const outgoing = request({
        ...{ host, port, path: `/v1/blobs/${id}${QUERIES[mode]}`, agent: this.#agent, signal },
        headers: { authorization: `Bearer ${token}`, [ASKER_HEADER]: this.#asker },
      });
      outgoing.on("socket", (socket) => {
        if (!socket.connecting) return;
        const connected = new AbortController();
        for (const event of ["secureConnect", "close"]) socket.once(event, () => connected.abort());
        this.#clock.sleep(CONNECT_MS, connected.signal).then(
          () => outgoing.destroy(new PeerError("PEER_SILENT", "no connection in time")),
          () => undefined,
        );
      });
      // Where the other agent begins to speak something else, Node closes the connection and tells nobody.
      outgoing.on("close", () => reject(new Error("closed")));
      outgoing.on("response", resolve).on("error", reject).end();
    });
  }
}

/** @throws PeerError */
async function refuseUnless(incoming: IncomingMessage, { id, length }: BlobRequest): Promise<void> {
  const { statusCode, headers } = incoming;
  // The connection of an answer that was read to its end, even if there is nothing in it, is kept for the next.
  if (statusCode === 204 || headers["content-length"] === "0") await finished(incoming.resume());
  if (statusCode === 404) throw new PeerError("PEER_LACKS", `blob ${id} is of none of its disks`);
  if (statusCode === 204) throw new PeerError("PEER_NOT_NOW", `blob ${id} would have to be fetched`);
  if (statusCode !== 200) throw new PeerError("PEER_REFUSED", `status ${statusCode}`);
  if (headers["content-length"] !== String(length))
    throw new PeerError("PEER_WRONG", `blob ${id} has ${length} bytes, not as many as are sent`);
}

/** @throws PeerError PEER_WRONG */
async function receive(incoming: IncomingMessage, { id, length }: BlobRequest): Promise<Buffer> {
  const content = Buffer.from(new ArrayBuffer(length));
  const hash = createHash("sha256");
  let received = 0;
  for await (const piece of incoming as AsyncIterable<Buffer>) {
    // No more than it said comes: the length is the parser's to keep.
    piece.copy(content, received);
    received += piece.length;
    hash.update(piece);
  }
  if (received !== length || hash.digest("hex") !== id)
    throw new PeerError("PEER_WRONG", `what was sent for blob ${id} is not that`);
  return content;
}
