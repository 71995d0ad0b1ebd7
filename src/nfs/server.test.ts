import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { ByteWriter } from "../base/bytes.ts";
import { Portmapper } from "./portmapper.ts";
import { NfsServer } from "./server.ts";
import { MemoryExport } from "./testing/memory-export.ts";
import { RpcClient } from "./testing/rpc-client.ts";
import { readOpaque, writeOpaque } from "./xdr.ts";

const run = promisify(execFile);
const NFS = 100003;
const SIZE = 4 * 1024 * 1024;

let server: NfsServer;
let disk: MemoryExport;
let port: number;
const clients: RpcClient[] = [];

beforeEach(async () => {
  server = new NfsServer();
  disk = new MemoryExport("/capability-0123456789", randomBytes(SIZE));
  server.addExport(disk);
  port = await server.listen("127.0.0.1", 0);
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.abandon();
  await server.close();
});

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 2000; tries++) {
    if (await holds()) return;
    await delay(5);
  }
  throw new Error(`not in ten seconds: ${what}`);
}

/** Bytes that anything still refers to, buffers included. */
async function keptBytes(): Promise<number> {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as (options: object) => Promise<void>;
  // Not at once: what the stack still holds would stay.
  for (let count = 0; count < 3; count++) await collect({ type: "major", execution: "async" });
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

async function connect(): Promise<RpcClient> {
  const client = await RpcClient.connect(port);
  clients.push(client);
  return client;
}

describe("with libnfs' tools", () => {
  const url = (file = ""): string => `nfs://127.0.0.1${disk.path}/${file}?nfsport=${port}&mountport=${port}&version=3`;

  test("lists, reads and writes the file", async () => {
    const scratch = await mkdtemp(join(tmpdir(), "nfs-"));
    try {
      const { stdout } = await run("nfs-ls", [url()]);
      expect(stdout).toMatch(new RegExp(`^-rw-rw----\\s+1\\s+107\\s+107\\s+${SIZE}\\s+disk.img`, "m"));
      await run("nfs-cp", [url("disk.img"), join(scratch, "copy")]);
      expect((await readFile(join(scratch, "copy"))).equals(disk.content)).toBe(true);
      const { stdout: content } = await run("nfs-cat", [url("disk.img")], { encoding: "buffer", maxBuffer: 2 * SIZE });
      expect(content.equals(disk.content)).toBe(true);
    } finally {
      await rm(scratch, { recursive: true });
    }
  });

  test("an unknown path is not mounted, and is counted", async () => {
    await expect(run("nfs-ls", [url().replace(disk.path, "/guess")])).rejects.toThrow();
    expect(server.counters.refused).toBeGreaterThan(0);
  });
});

test("QEMU's own NFS driver reads, writes and flushes", async () => {
  const address = "127.64.17.3";
  const own = new NfsServer();
  own.addExport(disk);
  const ownPort = await own.listen(address, 0);
  const portmapper = await Portmapper.listen(address, ownPort);
  const scratch = await mkdtemp(join(tmpdir(), "nfs-"));
  try {
    const url = `nfs://${address}${disk.path}/disk.img`;
    const { stdout } = await run("qemu-io", [
      "-f",
      "raw",
      "-t",
      "none",
      "-c",
      "write -P 0xab 4096 65536",
      "-c",
      "write -P 0xcd 70001 999",
      "-c",
      "flush",
      "-c",
      "read -P 0xab 4096 65536",
      "-c",
      "read -P 0xcd 70001 999",
      url,
    ]);
    expect(stdout).not.toMatch(/failed|error/i);
    expect(disk.content.subarray(4096, 4096 + 65536).every((byte) => byte === 0xab)).toBe(true);
    expect(disk.content.subarray(70001, 71000).every((byte) => byte === 0xcd)).toBe(true);
    expect(disk.commits + disk.stableWrites).toBeGreaterThan(0);
    await writeFile(join(scratch, "copy.img"), disk.content);
    await run("qemu-img", ["compare", "-f", "raw", "-F", "raw", url, join(scratch, "copy.img")]);
  } finally {
    await portmapper.close();
    await own.close();
    await rm(scratch, { recursive: true });
  }
});

test("random reads and writes over the wire equal a plain array", async () => {
  const client = await connect();
  const handle = await client.fileHandle(disk.path);
  const model = Buffer.from(disk.content);
  const place = fc
    .tuple(fc.nat(SIZE - 1), fc.nat(70_000))
    .map(([offset, length]) => ({ offset, length: Math.min(length, SIZE - offset) }));
  await fc.assert(
    fc.asyncProperty(
      place,
      fc.boolean(),
      fc.nat(255),
      fc.nat(2),
      fc.integer({ min: 100, max: 5000 }),
      async ({ offset, length }, isWrite, fill, stable, fragment) => {
        if (isWrite) {
          const data = Buffer.alloc(length, fill);
          const record = client.encode(NFS, 7, client.writeArguments(handle, offset, data, stable));
          const reply = await client.send(record, fragment);
          reply.skip(20);
          expect(reply.u32be()).toBe(0);
          model.fill(fill, offset, offset + length);
        } else {
          const args = writeOpaque(new ByteWriter(), handle).u64be(BigInt(offset)).u32be(length).finish();
          const reply = await client.call(NFS, 6, args);
          expect(reply.u32be()).toBe(0);
          reply.skip(4 + 84);
          expect(reply.u32be()).toBe(length);
          expect(reply.u32be()).toBe(offset + length === SIZE ? 1 : 0);
          expect(readOpaque(reply, SIZE).equals(model.subarray(offset, offset + length))).toBe(true);
        }
      },
    ),
    { numRuns: 200 },
  );
  expect(disk.content.equals(model)).toBe(true);
});

test("handles: survive a restart, cannot be made up, and go stale with their export", async () => {
  const client = await connect();
  const handle = await client.fileHandle(disk.path);
  const getattr = async (from: RpcClient, bytes: Buffer): Promise<number> =>
    (await from.call(NFS, 1, writeOpaque(new ByteWriter(), bytes).finish())).u32be();
  expect(await getattr(client, handle)).toBe(0);
  const SERVER = { from: 2, to: 10 };
  for (let at = 0; at < handle.length; at++) {
    const forged = Buffer.from(handle);
    forged[at] = (forged[at] ?? 0) ^ 1;
    const refused = server.counters.refused;
    // Another server's is not answered; any other is stale.
    const attempt = getattr(await connect(), forged).catch(() => "closed");
    expect([at, await attempt]).toEqual([at, at >= SERVER.from && at < SERVER.to ? "closed" : 70]);
    expect(server.counters.refused).toBe(refused + 1);
  }
  while (server.openConnections > 1 + handle.length - (SERVER.to - SERVER.from)) await delay(5);
  expect(server.connectionsOf(disk.path)).toBe(1);
  const verifier = Buffer.from(server.verifier);
  await server.close();
  server = new NfsServer();
  server.addExport(disk);
  port = await server.listen("127.0.0.1", 0);
  expect(server.verifier.equals(verifier)).toBe(false);
  const again = await connect();
  expect(await getattr(again, handle)).toBe(0);
  const closed = new Promise((resolve) => again.socket.once("close", resolve));
  server.removeExport(disk.path);
  await closed;
  expect(await getattr(await connect(), handle)).toBe(70);
  // So it is after another restart: a mount that shares its connection with others must not disturb them.
  await server.close();
  server = new NfsServer();
  port = await server.listen("127.0.0.1", 0);
  expect(await getattr(await connect(), handle)).toBe(70);
});

test("an address that is not allowed is refused and counted, whatever it knows", async () => {
  const gated = new NfsServer({ clients: ["127.9.0.0/16"] });
  gated.addExport(disk);
  const gatedPort = await gated.listen("0.0.0.0", 0);
  try {
    const allowed = await RpcClient.connect(gatedPort, "127.0.0.1", "127.9.1.1");
    clients.push(allowed);
    const handle = await allowed.fileHandle(disk.path);
    const other = await RpcClient.connect(gatedPort, "127.0.0.1", "127.8.1.1");
    clients.push(other);
    await expect(other.call(NFS, 1, writeOpaque(new ByteWriter(), handle).finish())).rejects.toThrow("closed");
    expect(gated.counters.refused).toBe(1);
    expect(gated.openConnections).toBe(1);
  } finally {
    await gated.close();
  }
});

test("a handle of another restore's export is not answered, so that its client looks for the right server", async () => {
  const elsewhere = new NfsServer({ identity: "restore-2" });
  elsewhere.addExport(new MemoryExport("/capability-9876543210", randomBytes(4096)));
  try {
    const there = await RpcClient.connect(await elsewhere.listen("127.0.0.1", 0));
    clients.push(there);
    const foreign = await there.fileHandle("/capability-9876543210");
    const refused = server.counters.refused;
    for (const procedure of [1, 6, 7, 21]) {
      const client = await connect();
      const args = client.writeArguments(foreign, 0, Buffer.alloc(100), 2);
      await expect(client.call(NFS, procedure, args)).rejects.toThrow("closed");
    }
    expect(server.counters.refused).toBe(refused + 4);
  } finally {
    await elsewhere.close();
  }
});

test("nobody but root and the owner reads or writes, and the directory never changes", async () => {
  const client = await connect();
  const handle = await client.fileHandle(disk.path);
  const read = writeOpaque(new ByteWriter(), handle).u64be(0n).u32be(10).finish();
  expect((await client.call(NFS, 6, read, 1000)).u32be()).toBe(13);
  expect((await client.call(NFS, 6, read, 107)).u32be()).toBe(0);
  expect((await client.call(NFS, 7, client.writeArguments(handle, SIZE - 5, Buffer.alloc(10), 2))).u32be()).toBe(27);
  const remove = writeOpaque(writeOpaque(new ByteWriter(), handle), Buffer.from("disk.img")).finish();
  expect((await client.call(NFS, 12, remove)).u32be()).toBe(30);
  disk.beforeWrite = async () => {
    throw Object.assign(new Error("sealed"), { code: "DISK_SEALED" });
  };
  expect((await client.call(NFS, 7, client.writeArguments(handle, 0, Buffer.alloc(10), 2))).u32be()).toBe(30);
});

test("garbage ends its own connection at most", async () => {
  const genuine = await connect();
  const handle = await genuine.fileHandle(disk.path);
  const valid = genuine.encode(NFS, 7, genuine.writeArguments(handle, 0, Buffer.alloc(100), 2));
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.nat(valid.length - 1), fc.nat(255)), { maxLength: 12 }),
      fc.nat(valid.length),
      async (changes, cut) => {
        const mutated = Buffer.from(valid);
        for (const [at, value] of changes) mutated[at] = value;
        const client = await connect();
        // Answered, refused or cut off: all the same, as long as it ends.
        await Promise.race([
          client.send(mutated.subarray(0, Math.max(8, cut))).catch(() => undefined),
          new Promise((resolve) => setTimeout(resolve, 20)),
        ]);
        client.close();
      },
    ),
    { numRuns: 150 },
  );
  const noise = await connect();
  noise.socket.write(randomBytes(100_000));
  await new Promise((resolve) => noise.socket.once("close", resolve));
  expect((await genuine.call(NFS, 0, Buffer.alloc(0))).remaining).toBe(0);
});

test("a client that does not read its answers is not read from either", async () => {
  const client = await connect();
  const handle = await client.fileHandle(disk.path);
  const read = writeOpaque(new ByteWriter(), handle)
    .u64be(0n)
    .u32be(1024 * 1024)
    .finish();
  client.socket.pause();
  const before = server.counters.reads;
  const answers = Array.from({ length: 400 }, () => client.send(client.encode(NFS, 6, read)));
  await new Promise((resolve) => setTimeout(resolve, 500));
  expect(server.counters.reads - before).toBeLessThan(150);
  client.socket.resume();
  await Promise.all(answers);
  expect(server.counters.reads - before).toBe(400);
});

test("a thousand reconnects, each with reads and writes and half of them cut off in the middle, leave nothing behind", async () => {
  const handle = await (await connect()).fileHandle(disk.path);
  const expected = Buffer.from(disk.content);
  const PIECE = 65_536;
  let calls = 0;
  const read = async (client: RpcClient, offset: number): Promise<void> => {
    const args = writeOpaque(new ByteWriter(), handle).u64be(BigInt(offset)).u32be(PIECE).finish();
    const reply = await client.call(NFS, 6, args);
    expect(reply.u32be()).toBe(0);
    if (reply.u32be() !== 0) reply.skip(84);
    reply.skip(8);
    expect(readOpaque(reply, PIECE).equals(expected.subarray(offset, offset + PIECE))).toBe(true);
    calls++;
  };
  const round = async (): Promise<void> => {
    const opened = await Promise.all(Array.from({ length: 50 }, () => RpcClient.connect(port)));
    await Promise.all(
      opened.map(async (client, index) => {
        const offset = index * PIECE;
        const bytes = randomBytes(4096);
        const wrote = await client.call(NFS, 7, client.writeArguments(handle, offset, bytes, 2));
        expect(wrote.u32be()).toBe(0);
        bytes.copy(expected, offset);
        await read(client, offset);
        if (index % 2 === 0) client.close();
        else {
          // Cut off while its answers are on their way.
          for (let count = 0; count < 4; count++) read(client, offset).catch(() => undefined);
          setImmediate(() => client.abandon());
        }
      }),
    );
    await until("all are closed", () => server.openConnections === 1);
  };
  const descriptors = async (): Promise<number> => (await readdir("/proc/self/fd")).length;
  // What is allocated once, and what is kept of calls that ended, is there after some rounds.
  for (let count = 0; count < 5; count++) await round();
  const before = { descriptors: await descriptors(), bytes: await keptBytes() };
  for (let count = 0; count < 20; count++) await round();
  expect(calls).toBeGreaterThanOrEqual(25 * 50);
  await until("the clients' ends are closed", async () => (await descriptors()) <= before.descriptors);
  const grown = (await keptBytes()) - before.bytes;
  // Two kilobytes a connection: less than one takes that is closed and still referred to, and far less than its buffers.
  expect(grown).toBeLessThan(2 * 1024 * 1024);
});
