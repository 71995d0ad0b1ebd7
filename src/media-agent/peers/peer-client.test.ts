import { createHash } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { createServer as createPlainServer } from "node:net";
import { afterAll, afterEach, beforeAll, expect, test } from "@jest/globals";
import type { KeyPair } from "../../base/certificates.ts";
import { testAuthority } from "../../base/testing/certificates.ts";
import { ManualClock } from "../../base/testing/manual-clock.ts";
import { PeerClient } from "./peer-client.ts";
import { PeerError } from "./peer-error.ts";

// Another agent that does everything but what it should.

const CONTENT = Buffer.alloc(300_000, "the machine's disk ");
const ID = createHash("sha256").update(CONTENT).digest("hex");
const blob = { id: ID, length: CONTENT.length, mode: "Fetch" } as const;
const never = new AbortController().signal;

let ca: string;
let pair: KeyPair;
let elsewhere: KeyPair;
let server: Server;
let answer: (request: IncomingMessage, response: ServerResponse) => void;
const clock = new ManualClock();
const clients: PeerClient[] = [];

beforeAll(async () => {
  const authority = await testAuthority();
  ca = authority.ca;
  pair = await authority.issue("agent", ["127.0.0.1"]);
  elsewhere = await authority.issue("agent", ["127.0.0.2"]);
  server = createServer(pair, (request, response) => answer(request, response));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
});

afterEach(() => {
  for (const client of clients.splice(0)) client.close();
});

afterAll(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

function client(port = (server.address() as AddressInfo).port, authority = ca): PeerClient {
  const made = new PeerClient({ id: "b", host: "127.0.0.1", port, ca: authority, token: "secret" }, "a", clock);
  clients.push(made);
  return made;
}

async function failure(fetching: Promise<Buffer>): Promise<unknown> {
  return fetching.then(
    () => "content",
    (error: unknown) => {
      expect(JSON.stringify(error) + String(error)).not.toContain("secret");
      return error instanceof PeerError ? error.code : error;
    },
  );
}

test("asks as what it is, and takes what is right, over one connection", async () => {
  const seen: unknown[] = [];
  const sockets = new Set();
  answer = ({ url, headers, socket }, response) => {
    seen.push([url, headers.authorization, headers["x-vmrestore-peer"]]);
    sockets.add(socket.remotePort);
    if (url?.endsWith("?now")) response.writeHead(204).end();
    else if (url?.endsWith("?cached")) response.writeHead(503, { "content-length": 0 }).end();
    else response.end(CONTENT);
  };
  const peer = client();
  expect((await peer.fetch(blob, never)).equals(CONTENT)).toBe(true);
  expect(await failure(peer.fetch({ ...blob, mode: "Now" }, never))).toBe("PEER_NOT_NOW");
  expect(await failure(peer.fetch({ ...blob, mode: "Cached" }, never))).toBe("PEER_REFUSED");
  expect((await peer.fetch(blob, never)).buffer.byteLength).toBe(CONTENT.length);
  expect(seen[0]).toEqual([`/v1/blobs/${ID}`, "Bearer secret", "a"]);
  expect(sockets.size).toBe(1);
});

test.each<[string, string, (response: ServerResponse) => void]>([
  ["other bytes", "PEER_WRONG", (response) => response.end(Buffer.alloc(CONTENT.length, "x"))],
  ["fewer bytes", "PEER_WRONG", (response) => response.end(CONTENT.subarray(1))],
  ["more bytes", "PEER_WRONG", (response) => response.end(Buffer.concat([CONTENT, CONTENT]))],
  ["bytes without end", "PEER_WRONG", (response) => pour(response)],
  ["an end in the middle", "PEER_REFUSED", (response) => cutOff(response)],
  ["no answer but an end", "PEER_REFUSED", (response) => response.destroy()],
  ["that it has nothing of it", "PEER_LACKS", (response) => response.writeHead(404).end("x".repeat(100_000))],
  ["that it is not to be asked", "PEER_REFUSED", (response) => response.writeHead(403, { "content-length": 0 }).end()],
  [
    "that it speaks something else from now on",
    "PEER_REFUSED",
    (response) => response.socket?.write("HTTP/1.1 101 Other\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"),
  ],
  [
    "another place to ask",
    "PEER_REFUSED",
    (response) => response.writeHead(302, { location: "https://127.0.0.1" }).end(),
  ],
])("%s: %s", async (_, code, respond) => {
  answer = (_request, response) => respond(response);
  expect(await failure(client().fetch(blob, never))).toBe(code);
});

/** As fast as they are taken, and with nothing said of how many. */
function pour(response: ServerResponse): void {
  const more = (): void => {
    while (!response.destroyed && response.write(CONTENT));
  };
  response.on("drain", more);
  response.on("error", () => undefined);
  more();
}

function cutOff(response: ServerResponse): void {
  response.writeHead(200, { "content-length": CONTENT.length });
  response.write(CONTENT.subarray(0, 1000), () => response.destroy());
}

test("one that sends drop by drop is let go when the time is over, and nothing more of it is read", async () => {
  const ended = Promise.withResolvers<void>();
  const begun = Promise.withResolvers<void>();
  answer = (_request, response) => {
    response.on("close", ended.resolve);
    response.writeHead(200, { "content-length": CONTENT.length });
    response.write(CONTENT.subarray(0, 1), () => begun.resolve());
  };
  const limit = new AbortController();
  const fetching = failure(client().fetch(blob, limit.signal));
  await begun.promise;
  limit.abort(new PeerError("PEER_SILENT", "the time is over"));
  expect(await fetching).toBe("PEER_SILENT");
  await ended.promise;
});

test("one that accepts connections and says nothing is given up", async () => {
  const dumb = createPlainServer();
  await new Promise<void>((resolve) => dumb.listen(0, "127.0.0.1", resolve));
  const connected = new Promise((resolve) => dumb.once("connection", resolve));
  const fetching = failure(client((dumb.address() as AddressInfo).port).fetch(blob, never));
  await connected;
  await clock.advance(2000);
  expect(await fetching).toBe("PEER_SILENT");
  await new Promise((resolve) => dumb.close(resolve));
});

test("nobody there, another authority's certificate and another address's are told apart from nothing: it is not asked", async () => {
  answer = () => {
    throw new Error("the token was shown to a stranger");
  };
  const stranger = (await testAuthority("another")).ca;
  expect(await failure(client(undefined, stranger).fetch(blob, never))).toBe("PEER_REFUSED");
  expect(await failure(client(1).fetch(blob, never))).toBe("PEER_REFUSED");
  const other = createServer(elsewhere, (request, response) => answer(request, response));
  await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
  expect(await failure(client((other.address() as AddressInfo).port).fetch(blob, never))).toBe("PEER_REFUSED");
  other.closeAllConnections();
  await new Promise((resolve) => other.close(resolve));
});
