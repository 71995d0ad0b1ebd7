import { createServer, type Server } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import type { Authority, KeyPair } from "../base/certificates.ts";
import { selfSigned, testAuthority } from "../base/testing/certificates.ts";
import { heldBy } from "../base/testing/held-by-signal.ts";
import type { RelocationProgress } from "./agent-control.ts";
import { AgentControlClient } from "./agent-control-client.ts";

interface Seen {
  readonly method: string | undefined;
  readonly url: string | undefined;
  readonly body: string;
}

type Reply = { status: number; body?: unknown; raw?: string } | "hang" | "reset" | "switch";
/** Something else is spoken from now on: no request of ours asks for that. */
const SWITCHING = "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n";

const STATUS = {
  instance: "i-1",
  epoch: 3,
  snapshot: "4bba301e",
  serving: true,
  bootSet: { source: "Profile", complete: true, launchable: true, bytes: 1, staged: 1, guestReads: 0, guestHits: 0 },
  repository: { reachable: true, message: "", bytesFetched: 0, pinned: true, pinMessage: "" },
  overlay: { full: false, bytesUsed: 0, bytesFree: 1 },
  connections: { nfs: 0, nbd: 0 },
  disks: [],
};
const PROGRESS: RelocationProgress = { cursor: 1, bytesTotal: 2, bytesDurable: 1, rate: 0.5, state: "FirstPass" };

type Identity = KeyPair & { readonly ca: string };

let authority: Authority;
let agentIdentity: Identity;
let jobIdentity: Identity;
let server: Server;
let port: number;
let seen: Seen[];
let sockets: Set<Socket>;
let connections: number;
let reply: (request: Seen) => Reply;
const clients: AgentControlClient[] = [];

beforeAll(async () => {
  authority = await testAuthority();
  const { ca } = authority;
  agentIdentity = { ...(await authority.issue("agent", ["127.0.0.1", "agent"])), ca };
  jobIdentity = { ...(await authority.issue("job", [])), ca };
});

beforeEach(async () => {
  seen = [];
  sockets = new Set();
  connections = 0;
  server = createServer(
    { ...agentIdentity, requestCert: true, rejectUnauthorized: true },
    async (incoming, outgoing) => {
      const pieces: Buffer[] = [];
      for await (const piece of incoming) pieces.push(piece);
      const request = { method: incoming.method, url: incoming.url, body: Buffer.concat(pieces).toString() };
      seen.push(request);
      const answer = reply(request);
      if (answer === "hang") return;
      if (answer === "switch") {
        incoming.socket.write(SWITCHING);
        return;
      }
      if (answer === "reset") {
        incoming.socket.destroy();
        return;
      }
      outgoing.writeHead(answer.status, { "content-type": "application/json" });
      outgoing.end(answer.raw ?? (answer.body === undefined ? undefined : JSON.stringify(answer.body)));
    },
  );
  server.on("secureConnection", (socket) => {
    connections++;
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  port = (server.address() as AddressInfo).port;
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

function connect(options: { tls?: Identity; serverName?: string; timeoutMs?: number } = {}): AgentControlClient {
  const client = new AgentControlClient({ host: "127.0.0.1", port, tls: jobIdentity, ...options });
  clients.push(client);
  return client;
}

test("asks each endpoint as the API says", async () => {
  const client = connect();
  reply = ({ method, url }) => {
    if (url === "/v1/status") return { status: 200, body: STATUS };
    if (url === "/v1/manifest") return { status: 200, body: { kind: "VirtualMachine" } };
    if (url === "/v1/objects") return { status: 200, body: [{ kind: "Secret" }] };
    if (url === "/v1/state/files") return { status: 404, body: { code: "NOT_FOUND", message: "an older agent" } };
    if (url === "/v1/state") return { status: 200, body: { files: [] } };
    if (url === "/v1/profile") return { status: 404, body: { code: "NO_PROFILE", message: "not yet" } };
    if (method === "POST") return { status: 200, body: { id: 7, bytes: 4096, final: false } };
    return { status: 204 };
  };
  await expect(client.status()).resolves.toEqual(STATUS);
  await expect(client.manifest()).resolves.toEqual({ kind: "VirtualMachine" });
  await expect(client.objects()).resolves.toEqual([{ kind: "Secret" }]);
  await expect(client.stateFiles()).resolves.toEqual([]);
  await expect(client.state()).resolves.toEqual({ files: [] });
  await expect(client.profile()).resolves.toBeUndefined();
  await client.setPhase("Booting");
  await client.seal("root disk", 3);
  await client.unseal("root", 3);
  await expect(client.freezeGeneration("root")).resolves.toEqual({ id: 7, bytes: 4096, final: false });
  await client.dropGeneration("root", 7);
  await client.reportRelocation("root", PROGRESS);
  await client.setRelocationLimit(1000);
  await client.setRelocationLimit(undefined);
  await client.setPeers({ digest: "d", peers: [] });
  expect(seen.map(({ method, url, body }) => [method, url, body === "" ? undefined : JSON.parse(body)])).toEqual([
    ["GET", "/v1/status", undefined],
    ["GET", "/v1/manifest", undefined],
    ["GET", "/v1/objects", undefined],
    ["GET", "/v1/state/files", undefined],
    ["GET", "/v1/state", undefined],
    ["GET", "/v1/profile", undefined],
    ["PUT", "/v1/phase", { phase: "Booting" }],
    ["PUT", "/v1/disks/root%20disk/seal", { epoch: 3 }],
    ["DELETE", "/v1/disks/root/seal", { epoch: 3 }],
    ["POST", "/v1/disks/root/generation", undefined],
    ["DELETE", "/v1/disks/root/generation/7", undefined],
    ["PUT", "/v1/disks/root/relocation", PROGRESS],
    ["PUT", "/v1/relocation-limit", { bytesPerSecond: 1000 }],
    ["PUT", "/v1/relocation-limit", { bytesPerSecond: null }],
    ["PUT", "/v1/peers", { digest: "d", peers: [] }],
  ]);
  expect(connections).toBe(1);
});

test("an agent of a later version: what is not known of its answers is left out, wherever it is", async () => {
  const disk = {
    name: "root",
    size: 1,
    exportPath: "/x",
    sealed: false,
    overlayBytes: 0,
    dirtyBytes: 0,
    bootSetStaged: 0,
    bootSetTotal: 0,
  };
  const hydration = { needed: 2, safe: 1, lost: 0, done: false, cacheFull: false };
  const move = { from: "a", to: "b", started: 1 };
  const known = {
    ...STATUS,
    repository: { ...STATUS.repository, hydration },
    move,
    peers: { bytesTaken: 0, bytesGiven: 0 },
    disks: [{ ...disk, relocation: PROGRESS }],
  };
  const later = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(later);
    if (typeof value !== "object" || value === null) return value;
    const entries = Object.entries(value).map(([name, part]) => [name, later(part)]);
    return { ...Object.fromEntries(entries), aLaterVersionKnows: { of: "it" } };
  };
  reply = () => ({ status: 200, body: later(known) });
  expect(await connect().status()).toEqual(known);
  reply = () => ({ status: 200, body: later({ id: 1, bytes: 2, final: false }) });
  expect(await connect().freezeGeneration("root")).toEqual({ id: 1, bytes: 2, final: false });
  reply = () => ({ status: 409, body: later({ code: "STALE_EPOCH", message: "epoch 4 is open" }) });
  await expect(connect().seal("root", 3)).rejects.toMatchObject({ code: "STALE_EPOCH" });
});

describe("errors", () => {
  test("carry the agent's code, status and hint", async () => {
    reply = () => ({ status: 409, body: { code: "STALE_EPOCH", message: "epoch 4 is open", hint: "stop this one" } });
    await expect(connect().seal("root", 3)).rejects.toMatchObject({
      code: "STALE_EPOCH",
      status: 409,
      hint: "stop this one",
      isTransient: false,
    });
  });

  test("say so when the status came without a reason", async () => {
    reply = () => ({ status: 503, raw: "<html>" });
    await expect(connect().status()).rejects.toMatchObject({ code: "AGENT_REFUSED", status: 503, isTransient: true });
  });

  test("name where an answer is wrong, and not what it said", async () => {
    reply = () => ({ status: 200, body: { ...STATUS, epoch: "capability-0123" } });
    const error = await connect()
      .status()
      .catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "AGENT_ANSWER_INVALID", message: expect.stringContaining("epoch") });
    expect(JSON.stringify([error, String(error)])).not.toContain("capability-0123");
    reply = () => ({ status: 200, raw: "{" });
    await expect(connect().status()).rejects.toMatchObject({ code: "AGENT_ANSWER_INVALID" });
  });

  test("bound the answer", async () => {
    reply = () => ({ status: 200, raw: `"${"x".repeat(21 * 1024 * 1024)}"` });
    await expect(connect().manifest()).rejects.toMatchObject({ code: "AGENT_ANSWER_INVALID" });
  });

  test("bound the time, and leave a caller's abort as it is", async () => {
    reply = () => "hang";
    await expect(connect({ timeoutMs: 100 }).status()).rejects.toMatchObject({ code: "AGENT_TIMEOUT" });
    const abort = new AbortController();
    const asked = connect().status(abort.signal);
    setTimeout(() => abort.abort(new Error("stop")), 20);
    await expect(asked).rejects.toThrow("stop");
    await expect(connect().status(abort.signal)).rejects.toThrow("stop");
  });

  test("are transient where nobody listens or the connection breaks", async () => {
    reply = () => "reset";
    await expect(connect().status()).rejects.toMatchObject({ code: "AGENT_UNREACHABLE", isTransient: true });
    const client = new AgentControlClient({ host: "127.0.0.1", port: 1, tls: jobIdentity });
    await expect(client.status()).rejects.toMatchObject({ code: "AGENT_UNREACHABLE", isTransient: true });
    client.close();
  });
});

test("asks once more when a kept connection was closed meanwhile", async () => {
  const client = connect();
  let count = 0;
  reply = () => (++count === 2 ? "reset" : { status: 200, body: STATUS });
  await client.status();
  await expect(client.status()).resolves.toEqual(STATUS);
  expect(connections).toBe(2);
});

test("is told of an agent that begins to speak something else, on a new connection and on a kept one", async () => {
  const client = connect();
  reply = () => "switch";
  await expect(client.status()).rejects.toMatchObject({ code: "AGENT_UNREACHABLE", isTransient: true });
  let count = 0;
  reply = () => (++count === 1 ? { status: 200, body: STATUS } : "switch");
  await client.status();
  await expect(client.status()).rejects.toMatchObject({ code: "AGENT_UNREACHABLE" });
  // Not as one that was closed before it was taken again: this one answered.
  expect(count).toBe(2);
  reply = () => ({ status: 200, body: STATUS });
  await expect(client.status()).resolves.toEqual(STATUS);
});

test("asks once more on a kept connection that is closed, and is told where that one breaks, too", async () => {
  const client = connect();
  let count = 0;
  reply = () => (++count === 1 ? { status: 200, body: STATUS } : "reset");
  await client.status();
  await expect(client.status()).rejects.toMatchObject({ code: "AGENT_UNREACHABLE" });
  expect(count).toBe(3);
});

test("a signal that lives long holds nothing of the requests that are over", async () => {
  reply = () => ({ status: 200, body: STATUS });
  const { signal } = new AbortController();
  const client = connect();
  await client.status(signal);
  const before = heldBy(signal);
  for (let count = 0; count < 5; count++) await client.status(signal);
  expect(heldBy(signal)).toBe(before);
});

describe("mutual TLS", () => {
  test("a stranger's certificate is refused by either side", async () => {
    reply = () => ({ status: 200, body: STATUS });
    const stranger = { ...(await selfSigned("job")), ca: authority.ca };
    await expect(connect({ tls: stranger }).status()).rejects.toMatchObject({ code: "AGENT_UNREACHABLE" });
    const { ca } = await testAuthority("other");
    await expect(connect({ tls: { ...jobIdentity, ca } }).status()).rejects.toMatchObject({
      code: "AGENT_UNREACHABLE",
    });
    expect(seen).toEqual([]);
  });

  test("the agent's name must be in its certificate", async () => {
    reply = () => ({ status: 200, body: STATUS });
    await expect(connect({ serverName: "agent" }).status()).resolves.toEqual(STATUS);
    await expect(connect({ serverName: "another" }).status()).rejects.toMatchObject({ code: "AGENT_UNREACHABLE" });
  });
});
