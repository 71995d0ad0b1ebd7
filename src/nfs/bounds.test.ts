import { randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, describe, expect, test } from "@jest/globals";
import { type ByteReader, ByteWriter } from "../base/bytes.ts";
import { deferred } from "../base/deferred.ts";
import { NfsServer, type NfsServerOptions } from "./server.ts";
import { MemoryExport } from "./testing/memory-export.ts";
import { RpcClient } from "./testing/rpc-client.ts";
import { readOpaque, writeOpaque } from "./xdr.ts";

const NFS = 100003;
const MIB = 1024 * 1024;
const SIZE = 4 * MIB;
const JUKEBOX = 10_008;

let server: NfsServer;
let disk: MemoryExport;
let port: number;
let handle: Buffer;
const clients: RpcClient[] = [];

async function serve(options: NfsServerOptions = {}): Promise<void> {
  server = new NfsServer(options);
  disk = new MemoryExport("/export", randomBytes(SIZE));
  server.addExport(disk);
  port = await server.listen("127.0.0.1", 0);
  const client = await connect();
  handle = await client.fileHandle(disk.path);
  client.close();
}

async function connect(): Promise<RpcClient> {
  const client = await RpcClient.connect(port);
  clients.push(client);
  return client;
}

afterEach(async () => {
  for (const client of clients.splice(0)) client.abandon();
  await server.close();
});

const readArguments = (offset: number, length: number): Buffer =>
  writeOpaque(new ByteWriter(), handle).u64be(BigInt(offset)).u32be(length).finish();

const read = (client: RpcClient, offset: number, length: number): Promise<ByteReader> =>
  client.call(NFS, 6, readArguments(offset, length));

const write = async (client: RpcClient, offset: number, data: Buffer): Promise<number> =>
  (await client.call(NFS, 7, client.writeArguments(handle, offset, data, 2))).u32be();

/** Reads wait from now on, until the function is called that it gives back. Counts those that were begun. */
function holdReads(): { begun: number; release: () => void } {
  const gate = deferred();
  const held = { begun: 0, release: () => gate.resolve() };
  const original = disk.read.bind(disk);
  disk.read = async (offset, length, into) => {
    held.begun++;
    await gate.promise;
    return original(offset, length, into);
  };
  return held;
}

async function until(what: string, holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`not in time: ${what}`);
    await delay(5);
  }
}

test("reads that wait for the repository hold up no write, no lookup, and nobody else", async () => {
  await serve();
  const [client, other] = [await connect(), await connect()];
  const held = holdReads();
  const waiting = Array.from({ length: 400 }, (_, index) => read(client, index * 512, 512));
  await until("reads begin", () => held.begun === 256);
  expect(await write(client, 0, Buffer.alloc(4096, 7))).toBe(0);
  expect((await client.call(NFS, 1, writeOpaque(new ByteWriter(), handle).finish())).u32be()).toBe(0);
  expect(await write(other, 4096, Buffer.alloc(4096, 8))).toBe(0);
  expect(held.begun).toBe(256);
  held.release();
  for (const reply of await Promise.all(waiting)) expect(reply.u32be()).toBe(0);
  expect(held.begun).toBe(400);
  await until("nothing is held", () => server.readBudget.used === 0);
});

test("clients that take no answers hold a bounded amount, and others go on", async () => {
  await serve();
  const silent = await Promise.all(Array.from({ length: 12 }, connect));
  for (const client of silent) {
    client.socket.pause();
    for (let count = 0; count < 100; count++)
      client.send(client.encode(NFS, 6, readArguments(0, MIB))).catch(() => undefined);
  }
  await delay(300);
  expect(server.readBudget.used).toBeLessThanOrEqual(64 * MIB + silent.length * MIB);
  const listening = await connect();
  for (let count = 0; count < 50; count++) expect((await read(listening, count, MIB)).u32be()).toBe(0);
  // They asked 1,200 times. What was read for them is what may be under way, and what the sockets' own buffers take.
  expect(server.counters.reads).toBeLessThan(600);
  for (const client of silent) client.close();
  await until("everything is given back", () => server.readBudget.used === 0);
});

test("writes that wait for space hold a bounded amount, and reads go on", async () => {
  await serve();
  const gate = deferred();
  let begun = 0;
  disk.beforeWrite = async () => {
    begun++;
    await gate.promise;
  };
  const writers = await Promise.all(Array.from({ length: 8 }, connect));
  const data = randomBytes(MIB);
  const waiting = writers.flatMap((client) => Array.from({ length: 30 }, () => write(client, 0, data)));
  await until("the budget is used", () => server.writeBudget.used > 47 * MIB);
  await delay(100);
  expect(server.writeBudget.used).toBeLessThanOrEqual((64 + 8) * (MIB + 4096));
  expect(begun).toBeLessThanOrEqual(72);
  const reader = await connect();
  expect((await read(reader, 0, MIB)).u32be()).toBe(0);
  gate.resolve();
  expect(new Set(await Promise.all(waiting))).toEqual(new Set([0]));
  expect([begun, server.writeBudget.used]).toEqual([240, 0]);
});

test("sixty-four clients at once each see what they wrote", async () => {
  await serve();
  const each = SIZE / 64;
  await Promise.all(
    Array.from({ length: 64 }, async (_, index) => {
      const client = await connect();
      for (let round = 1; round <= 10; round++) {
        const data = randomBytes(16_384);
        await Promise.all(
          Array.from({ length: 4 }, (_, part) => {
            const piece = data.subarray(part * 4096, (part + 1) * 4096);
            return write(client, index * each + part * 4096, piece);
          }),
        );
        const reply = await read(client, index * each, data.length);
        reply.skip(4 + 4 + 84 + 8);
        expect(readOpaque(reply, SIZE).equals(data)).toBe(true);
      }
    }),
  );
  expect(server.counters.writes).toBe(64 * 10 * 4);
});

describe("a read that waits long", () => {
  test("is put off just before the client would ask again, and goes on for the next attempt", async () => {
    await serve({ patienceMs: 100 });
    const client = await connect();
    const held = holdReads();
    const begun = performance.now();
    const late = await read(client, 0, 4096);
    expect([late.u32be(), late.u32be(), late.remaining]).toEqual([JUKEBOX, 0, 0]);
    expect(performance.now() - begun).toBeGreaterThan(75);
    expect(server.counters.putOff).toBe(1);
    const again = read(client, 0, 4096);
    held.release();
    const reply = await again;
    expect(reply.u32be()).toBe(0);
    await until("nothing is held", () => server.readBudget.used === 0);
  });

  test("is answered late where too many were put off already", async () => {
    await serve({ patienceMs: 50 });
    const client = await connect();
    const held = holdReads();
    const statuses = Array.from({ length: 200 }, async (_, index) => (await read(client, index * 512, 512)).u32be());
    await until("some are put off", () => server.counters.putOff === 64);
    await delay(150);
    expect(server.counters.putOff).toBe(64);
    held.release();
    const answered = await Promise.all(statuses);
    expect(answered.filter((status) => status === JUKEBOX).length).toBe(64);
    expect(answered.filter((status) => status === 0).length).toBe(136);
    await until("nothing is held", () => server.readBudget.used === 0);
  });

  test("is read once, however often it is sent again", async () => {
    await serve();
    const client = await connect();
    const held = holdReads();
    const record = client.encode(NFS, 6, readArguments(0, 4096), 0x1234);
    const first = client.send(record);
    for (let count = 0; count < 20; count++) client.send(record).catch(() => undefined);
    expect(await write(client, 8192, Buffer.alloc(4, 1))).toBe(0);
    expect(held.begun).toBe(1);
    held.release();
    await first;
    // Once it was answered, the same XID is a call like any other.
    client.send(record).catch(() => undefined);
    await until("it is read again", () => held.begun === 2);
  });
});

test("buffers that are used again never mix up answers: of reads that come late, are put off, fail, or whose client is gone", async () => {
  await serve({ patienceMs: 100 });
  const original = disk.read.bind(disk);
  disk.read = async (offset, length, into) => {
    // Whoever is lent a buffer that is not free overwrites what another still needs.
    into?.fill(0xee);
    if (offset % 5 === 0) await delay(offset % 7);
    if (offset % 97 === 1) await delay(250);
    if (offset % 11 === 3) {
      // As a read does whose other part has failed.
      setTimeout(() => into?.fill(0xdd), 20);
      throw new Error("damaged");
    }
    return original(offset, length, into);
  };
  let compared = 0;
  const readAll = async (client: RpcClient, seed: number): Promise<void> => {
    const reads = Array.from({ length: 300 }, async (_, count) => {
      const length = 1 + ((count * 7919 + seed) % 40_000);
      const offset = (count * 104_729 + seed * 31) % (SIZE - length);
      const reply = await read(client, offset, length);
      const status = reply.u32be();
      if (offset % 11 === 3) expect([5, JUKEBOX]).toContain(status);
      if (status !== 0) return;
      reply.skip(4 + 84 + 8);
      expect(readOpaque(reply, SIZE).equals(disk.content.subarray(offset, offset + length))).toBe(true);
      compared++;
    });
    await Promise.all(reads);
  };
  for (let round = 0; round < 3; round++) {
    const [leaving, ...staying] = await Promise.all([connect(), connect(), connect()]);
    const gone = readAll(leaving, round).catch(() => undefined);
    setTimeout(() => leaving.close(), 10 * round);
    await Promise.all(staying.map((client, index) => readAll(client, 100 * round + index)));
    await gone;
  }
  expect(compared).toBeGreaterThan(1000);
  expect(server.counters.putOff).toBeGreaterThan(0);
  await until("nothing is held", () => server.readBudget.used === 0);
});

test("a write is never put off: whoever asks again could meet it later", async () => {
  await serve({ patienceMs: 50 });
  const client = await connect();
  disk.beforeWrite = () => delay(300);
  expect(await write(client, 0, Buffer.alloc(4096))).toBe(0);
  expect(server.counters.putOff).toBe(0);
});

describe("a client that has shown neither path nor handle", () => {
  const mark = (length: number): Buffer => new ByteWriter().u32be((0x80000000 | length) >>> 0).finish();

  test("may not send large records, but a large write with a handle may be the first call of a connection", async () => {
    await serve();
    const data = randomBytes(MIB);
    const [forger, noise, genuine] = [await connect(), await connect(), await connect()];
    const forged = Buffer.from(handle);
    forged[forged.length - 1] = (forged.at(-1) ?? 0) ^ 1;
    const refused = server.counters.refused;
    forger.send(forger.encode(NFS, 7, forger.writeArguments(forged, 0, data, 2))).catch(() => undefined);
    noise.socket.write(Buffer.concat([mark(MIB), randomBytes(300_000)]));
    await until("both are closed", () => forger.socket.closed && noise.socket.closed);
    expect(server.counters.refused).toBe(refused + 1);
    const record = genuine.encode(NFS, 7, genuine.writeArguments(handle, 0, data, 2));
    await genuine.send(record, 300_000);
    expect(disk.content.subarray(0, MIB).equals(data)).toBe(true);
  });

  test("gives its place to the next one where all are taken; clients that have shown one never do", async () => {
    await serve({ connections: 8 });
    const proven = await Promise.all([connect(), connect(), connect()]);
    for (const client of proven) await read(client, 0, 10);
    const strangers: RpcClient[] = [];
    for (let count = 0; count < 20; count++) {
      const stranger = await connect();
      strangers.push(stranger);
      // The newest is served.
      await stranger.call(NFS, 0, Buffer.alloc(0));
    }
    expect(server.openConnections).toBe(8);
    await until("the first have gone", () => strangers.slice(0, 15).every((each) => each.socket.closed));
    const more = await Promise.all(Array.from({ length: 5 }, connect));
    for (const client of [...proven, ...more]) expect((await read(client, 0, 10)).u32be()).toBe(0);
    const last = await connect();
    await expect(read(last, 0, 10)).rejects.toThrow("closed");
  });

  test("has its time from its first moment, however long the server has run and whatever it has taken yet", async () => {
    let now = 1_000_000;
    await serve({ patienceMs: 50, monotonic: () => now });
    await until("the first is gone", () => server.openConnections === 0);
    const slow = await connect();
    slow.socket.pause();
    // More answers at once than the kernel takes: none of them counts as sent before the client reads.
    const replies = Array.from({ length: 12 }, () => slow.send(slow.encode(NFS, 6, readArguments(0, MIB))));
    await until("they are read", () => server.counters.reads > 5);
    now += 100_000;
    await delay(100);
    expect([server.openConnections, server.counters.abandoned]).toEqual([1, 0]);
    slow.socket.resume();
    for (const reply of await Promise.all(replies)) expect(reply.remaining).toBeGreaterThan(MIB);
  });

  test("is closed after a minute; one that stops in the middle of a call or takes no answers, too", async () => {
    let now = 0;
    await serve({ patienceMs: 50, monotonic: () => now });
    await until("the first is gone", () => server.openConnections === 0);
    const idle = await connect();
    await read(idle, 0, 10);
    const [stranger, half, silent] = [await connect(), await connect(), await connect()];
    await stranger.call(NFS, 0, Buffer.alloc(0));
    await read(half, 0, 10);
    half.socket.write(mark(MIB).subarray(0, 3));
    silent.socket.pause();
    for (let count = 0; count < 60; count++)
      silent.send(silent.encode(NFS, 6, readArguments(0, MIB))).catch(() => undefined);
    // Until nothing more can be sent to it.
    for (let seen = -1; seen !== server.counters.reads; await delay(300)) seen = server.counters.reads;
    const closed = (client: RpcClient): boolean => client.socket.destroyed || client.socket.readableEnded;
    now = 59_000;
    await delay(60);
    expect(server.openConnections).toBe(4);
    now = 61_000;
    await until("two are gone", () => server.openConnections === 2);
    await until("they see it", () => closed(stranger) && closed(half));
    now = 122_000;
    await until("three are gone", () => server.openConnections === 1);
    expect(server.counters.abandoned).toBe(3);
    // One that is idle may stay so.
    expect((await read(idle, 0, 10)).u32be()).toBe(0);
  });
});
