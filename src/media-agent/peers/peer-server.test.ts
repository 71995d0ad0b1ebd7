import { createHash } from "node:crypto";
import { get, request } from "node:https";
import type { AddressInfo } from "node:net";
import { createServer } from "node:net";
import { afterEach, beforeAll, beforeEach, expect, test } from "@jest/globals";
import { type Peer, peerToken } from "../../api/peers.ts";
import type { KeyPair } from "../../base/certificates.ts";
import { systemClock } from "../../base/clock.ts";
import { type Deferred, deferred } from "../../base/deferred.ts";
import { silentLogger } from "../../base/logging.ts";
import { testAuthority } from "../../base/testing/certificates.ts";
import { type AskMode, PeerClient } from "./peer-client.ts";
import { type SharedBlobs, servePeers } from "./peer-server.ts";

const CONTENT = Buffer.alloc(700_001, "the machine's disk ");
const ID = createHash("sha256").update(CONTENT).digest("hex");
const never = new AbortController().signal;

/** An agent's cache and scheduler, as simple as may be. */
class Blobs implements SharedBlobs {
  cached = false;
  needed = true;
  waiting = 0;
  readonly staged: string[] = [];
  staging: Deferred<void> | undefined;
  running: Deferred<void> | undefined;
  /** From this place on the blob is gone. */
  goneFrom = Number.POSITIVE_INFINITY;

  place(id: string) {
    return id === ID && this.needed ? { pack: "p", length: CONTENT.length } : undefined;
  }

  has(): boolean {
    return this.cached;
  }

  async read(_: string, offset: number, length: number): Promise<Buffer | undefined> {
    return offset >= this.goneFrom ? undefined : CONTENT.subarray(offset, offset + length);
  }

  async stage(id: string): Promise<void> {
    this.staged.push(id);
    await this.staging?.promise;
  }

  fetching(): Promise<void> | undefined {
    return this.running?.promise;
  }
}

let ca: string;
let server: KeyPair;
let blobs: Blobs | undefined;
let given: number;
let port: number;
let close: () => Promise<void>;
const clients: PeerClient[] = [];

beforeAll(async () => {
  const authority = await testAuthority();
  ca = authority.ca;
  server = await authority.issue("agent", ["127.0.0.1"]);
});

beforeEach(async () => {
  blobs = new Blobs();
  given = 0;
  port = await freePort();
  close = await servePeers({
    ...{ address: "127.0.0.1", port, tls: server, log: silentLogger },
    tokenOf: (asker) => (asker === "asker" ? peerToken(server.key, "asker") : undefined),
    blobs: () => blobs,
    onGiven: (bytes) => {
      given += bytes;
    },
  });
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await close();
});

async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, "127.0.0.1", resolve));
  const { port: free } = probe.address() as AddressInfo;
  await new Promise((resolve) => probe.close(resolve));
  return free;
}

function ask(mode: AskMode, change: Partial<Peer> = {}, asker = "asker", id = ID): Promise<unknown> {
  const token = peerToken(server.key, "asker");
  const client = new PeerClient({ id: "b", host: "127.0.0.1", port, ca, token, ...change }, asker, systemClock);
  clients.push(client);
  return client.fetch({ id, length: CONTENT.length, mode }, never).then(
    (content) => (content.equals(CONTENT) ? "content" : "something else"),
    (error: unknown) => (error as { code?: unknown }).code,
  );
}

function own(): Blobs {
  if (blobs === undefined) throw new Error("not there");
  return blobs;
}

test("what is cached is given, whatever the question", async () => {
  own().cached = true;
  for (const mode of ["Fetch", "Now", "Cached"] as const) expect(await ask(mode)).toBe("content");
  expect(own().staged).toEqual([]);
  // It is counted when the last of it is out, which the asker may know first.
  while (given < 3 * CONTENT.length) await systemClock.sleep(5);
  expect(given).toBe(3 * CONTENT.length);
});

test("what is not cached is fetched only where that is asked for; where it comes too late for a guest, for those who ask next", async () => {
  expect(await ask("Cached")).toBe("PEER_NOT_NOW");
  expect(own().staged).toEqual([]);
  expect(await ask("Now")).toBe("PEER_NOT_NOW");
  expect(own().staged).toEqual([ID]);
  own().waiting = 1000;
  expect(await ask("Now")).toBe("PEER_NOT_NOW");
  expect(own().staged).toEqual([ID]);
  own().waiting = 0;
  own().staging = deferred();
  const fetched = ask("Fetch");
  while (own().staged.length < 2) await systemClock.sleep(5);
  own().cached = true;
  own().staging?.resolve();
  expect(await fetched).toBe("content");
});

test("what is on its way from the repository is waited for", async () => {
  own().running = deferred();
  const [now, cached] = [ask("Now"), ask("Cached")];
  await systemClock.sleep(20);
  own().cached = true;
  own().running?.resolve();
  expect(await Promise.all([now, cached])).toEqual(["content", "content"]);
  expect(own().staged).toEqual([]);
});

test("what cannot be had, or has no place in the cache, is not given; what is of no disk, nobody has", async () => {
  expect(await ask("Fetch")).toBe("PEER_REFUSED");
  own().staging = deferred();
  own().staging?.reject(new Error("damaged"));
  expect(await ask("Fetch")).toBe("PEER_REFUSED");
  own().needed = false;
  own().cached = true;
  expect(await ask("Cached")).toBe("PEER_LACKS");
  expect(await ask("Fetch", {}, "asker", "b".repeat(64))).toBe("PEER_LACKS");
  blobs = undefined;
  expect(await ask("Fetch")).toBe("PEER_REFUSED");
});

test("a blob that leaves the cache while it is sent is cut off", async () => {
  own().cached = true;
  own().goneFrom = 300_000;
  expect(await ask("Fetch")).toBe("PEER_REFUSED");
  expect(given).toBe(0);
});

test("only who is of the group and shows it gets anything: not another, not with another's token, not with a part of it", async () => {
  own().cached = true;
  const token = peerToken(server.key, "asker");
  expect(await ask("Cached", {}, "stranger")).toBe("PEER_REFUSED");
  expect(await ask("Cached", { token: peerToken(server.key, "stranger") }, "stranger")).toBe("PEER_REFUSED");
  for (const wrong of [token.slice(0, -1), `${token}x`, "x", peerToken(server.key, "another")])
    expect(await ask("Cached", { token: wrong })).toBe("PEER_REFUSED");
  const bare = await new Promise((resolve, reject) => {
    get({ host: "127.0.0.1", port, ca, path: `/v1/blobs/${ID}`, agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode);
    }).on("error", reject);
  });
  expect(bare).toBe(403);
  expect(await ask("Cached")).toBe("content");
});

test("the token opens no other door, and no other method", async () => {
  own().cached = true;
  const status = (method: string, path: string): Promise<unknown> =>
    new Promise((resolve, reject) => {
      const headers = { authorization: `Bearer ${peerToken(server.key, "asker")}`, "x-vmrestore-peer": "asker" };
      request({ host: "127.0.0.1", port, ca, method, path, headers, agent: false }, (response) => {
        response.resume();
        resolve(response.statusCode);
      })
        .on("error", reject)
        .end();
    });
  for (const [method, path] of [
    ["GET", "/v1/status"],
    ["GET", "/v1/state"],
    ["PUT", "/v1/peers"],
    ["PUT", `/v1/blobs/${ID}`],
    ["GET", `/v1/blobs/${ID}/x`],
    ["GET", `/v1/blobs/${ID.toUpperCase()}`],
    ["GET", "/v1/blobs/..%2f..%2fetc"],
  ] as const)
    expect([path, await status(method, path)]).toEqual([path, 404]);
});

test("of one asker no more than so much is taken at once; others are served", async () => {
  own().staging = deferred();
  const waiting = Array.from({ length: 16 }, () => ask("Fetch"));
  while (own().staged.length < 16) await systemClock.sleep(5);
  expect(await ask("Cached")).toBe("PEER_REFUSED");
  own().cached = true;
  own().staging?.resolve();
  expect(new Set(await Promise.all(waiting))).toEqual(new Set(["content"]));
  expect(await ask("Cached")).toBe("content");
});

test("an asker that goes away is waited for no longer", async () => {
  own().staging = deferred();
  const gone = Array.from({ length: 16 }, () => ask("Fetch"));
  while (own().staged.length < 16) await systemClock.sleep(5);
  for (const client of clients.splice(0)) client.close();
  expect(new Set(await Promise.all(gone))).toEqual(new Set(["PEER_REFUSED"]));
  own().cached = true;
  // The connections' ends come in their own time.
  for (let answer: unknown; answer !== "content"; answer = await ask("Cached")) await systemClock.sleep(5);
});

test("who asks and goes away, again and again, does not have everything fetched: more than all may wait for does not wait", async () => {
  own().staging = deferred();
  own().waiting = 8 * 16;
  expect(await ask("Fetch")).toBe("PEER_REFUSED");
  expect(own().staged).toEqual([]);
  own().running = deferred();
  const fetching = ask("Fetch");
  await systemClock.sleep(50);
  own().cached = true;
  own().running?.resolve();
  expect(await fetching).toBe("content");
});

test("a token is another for each pair, and tells nothing of the key", () => {
  const tokens = ["a", "b"].map((asker) => peerToken(server.key, asker));
  expect(new Set([...tokens, peerToken("another key", "a")]).size).toBe(3);
  expect(peerToken(server.key, "a")).toBe(tokens[0]);
  expect(tokens[0]).toMatch(/^[\w-]{43}$/);
});
