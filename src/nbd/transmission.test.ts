import { randomBytes } from "node:crypto";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { deferred } from "../base/deferred.ts";
import { CHUNK, CMD, CMD_FLAG, ERRNO, OPT, PAYLOAD_LIMIT } from "./protocol.ts";
import { NbdServer } from "./server.ts";
import { MemoryExport } from "./testing/memory-export.ts";
import { contextBody, RawClient } from "./testing/raw-client.ts";

const MIB = 1024 * 1024;
const SIZE = 40 * MIB;

let server: NbdServer;
let disk: MemoryExport;
let port: number;
const clients: RawClient[] = [];

beforeEach(async () => {
  server = new NbdServer();
  disk = new MemoryExport("root", randomBytes(SIZE));
  server.addExport(disk);
  server.addExport(new MemoryExport("fixed", Buffer.alloc(MIB, 7), true));
  port = await server.listen({ address: "127.0.0.1", port: 0 });
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await server.close();
});

async function open(options: { name?: string; structured?: boolean; contexts?: string[] } = {}): Promise<RawClient> {
  const { name = "root", structured = true, contexts = [] } = options;
  const client = await RawClient.connect(port);
  clients.push(client);
  if (structured) await client.option(OPT.structuredReply);
  if (contexts.length > 0) await client.option(OPT.setMetaContext, contextBody(name, contexts));
  await client.go(name);
  return client;
}

/** The error number of an error chunk. */
const errorOf = ({ type, body }: { type?: number; body: Buffer }): number | undefined =>
  type === CHUNK.error ? body.readUInt32BE(0) : undefined;

test("answers leave as they are ready, not as they were asked for", async () => {
  const client = await open();
  const gate = deferred();
  const read = disk.read.bind(disk);
  disk.read = async (offset, length) => {
    if (offset === 0) await gate.promise;
    return read(offset, length);
  };
  client.request(CMD.read, 1, 0, 100);
  client.request(CMD.read, 2, 5000, 100);
  expect((await client.chunk()).cookie).toBe(2n);
  gate.resolve();
  expect((await client.chunk()).cookie).toBe(1n);
});

test("long reads begin as fast as the event loop can copy what is cached, those of all connections together", async () => {
  // What came and what waited are each half a MiB, and one more read, where one turn ends and the next begins.
  const most = 2 * ((512 + 256) * 1024 + 100);
  let begun = 0;
  const perTurn: number[] = [];
  const read = disk.read.bind(disk);
  disk.read = (offset, length, into) => {
    if (begun === 0) {
      setImmediate(() => {
        perTurn.push(begun);
        begun = 0;
      });
    }
    begun += length;
    return read(offset, length, into);
  };
  const both = [await open(), await open()];
  for (const client of both) {
    for (let index = 0; index < 32; index++)
      client.request(CMD.read, index, index * 256 * 1024, 256 * 1024, CMD_FLAG.df);
    client.request(CMD.read, 32, 7, 100);
  }
  for (const client of both) {
    for (let index = 0; index < 33; index++) {
      const { cookie, body } = await client.chunk();
      const [offset, length] = cookie === 32n ? [7, 100] : [Number(cookie) * 256 * 1024, 256 * 1024];
      expect(body.subarray(8).equals(disk.content.subarray(offset, offset + length))).toBe(true);
    }
  }
  expect(perTurn.reduce((sum, bytes) => sum + bytes, begun)).toBe(2 * (32 * 256 * 1024 + 100));
  expect(Math.max(...perTurn)).toBeLessThanOrEqual(most);
});

test("a sparse read comes as data and holes; with DF as one piece; without structured replies as plain bytes", async () => {
  disk.content.fill(0, 8192, 20_480);
  const client = await open();
  client.request(CMD.read, 1, 4096, 20_480);
  const chunks = [await client.chunk(), await client.chunk(), await client.chunk()];
  expect(chunks.map(({ type, flags, body }) => [type, flags, Number(body.readBigUInt64BE(0))])).toEqual([
    [CHUNK.offsetData, 0, 4096],
    [CHUNK.offsetHole, 0, 8192],
    [CHUNK.offsetData, 1, 20_480],
  ]);
  expect(chunks[1]?.body.readUInt32BE(8)).toBe(12_288);
  client.request(CMD.read, 2, 4096, 20_480, CMD_FLAG.df);
  const whole = await client.chunk();
  expect([whole.type, whole.flags, whole.body.length]).toEqual([CHUNK.offsetData, 1, 8 + 20_480]);
  const plain = await open({ structured: false });
  plain.request(CMD.read, 3, 4096, 20_480);
  expect((await plain.simple(20_480)).body.equals(disk.content.subarray(4096, 24_576))).toBe(true);
});

test("the largest requests pass whole, and one byte more is refused", async () => {
  const client = await open();
  client.request(CMD.read, 1, 1, PAYLOAD_LIMIT, CMD_FLAG.df);
  const { body } = await client.chunk();
  expect(body.subarray(8).equals(disk.content.subarray(1, 1 + PAYLOAD_LIMIT))).toBe(true);
  const data = randomBytes(PAYLOAD_LIMIT);
  client.request(CMD.write, 2, 3, PAYLOAD_LIMIT, CMD_FLAG.fua);
  client.send(data);
  expect((await client.chunk()).type).toBe(CHUNK.none);
  expect(disk.content.subarray(3, 3 + PAYLOAD_LIMIT).equals(data)).toBe(true);
  expect(disk.durableWrites).toBe(1);
  client.request(CMD.read, 3, 0, PAYLOAD_LIMIT + 1);
  expect(errorOf(await client.chunk())).toBe(ERRNO.inval);
  client.request(CMD.write, 4, 0, PAYLOAD_LIMIT + 1);
  await expect(client.read(1)).rejects.toMatchObject({ code: "NBD_DISCONNECTED" });
});

test("what goes beyond the end, is unknown or not allowed gets its error, and the connection lives", async () => {
  const client = await open({ contexts: ["base:allocation"] });
  const refused = async (expected: number, type: number, offset: number | bigint, length: number, flags = 0) => {
    client.request(type, 9, offset, length, flags);
    if (type === CMD.write) client.send(Buffer.alloc(length));
    expect([type, errorOf(await client.chunk())]).toEqual([type, expected]);
  };
  await refused(ERRNO.inval, CMD.read, SIZE, 1);
  await refused(ERRNO.inval, CMD.read, 2n ** 64n - 1n, 1);
  await refused(ERRNO.inval, CMD.read, 2 ** 53 - 1, 0xffffffff);
  await refused(ERRNO.nospc, CMD.write, SIZE - 1, 2);
  await refused(ERRNO.nospc, CMD.writeZeroes, 1, 0xffffffff);
  await refused(ERRNO.inval, CMD.trim, SIZE, 1);
  await refused(ERRNO.inval, CMD.blockStatus, 0, 0);
  await refused(ERRNO.inval, 99, 0, 1);
  await refused(ERRNO.inval, CMD.read, 0, 1, 0x8000);
  await refused(ERRNO.notsup, CMD.writeZeroes, 0, 4096, CMD_FLAG.fastZero);
  disk.read = () => Promise.reject(new Error("the medium is gone"));
  await refused(ERRNO.io, CMD.read, 0, 10);
  const before = Buffer.from(disk.content);
  const fixed = await open({ name: "fixed" });
  for (const type of [CMD.write, CMD.writeZeroes, CMD.trim]) {
    fixed.request(type, 1, 0, 10);
    if (type === CMD.write) fixed.send(Buffer.alloc(10));
    expect(errorOf(await fixed.chunk())).toBe(ERRNO.perm);
  }
  fixed.request(CMD.flush, 1, 0, 0);
  expect((await fixed.chunk()).type).toBe(CHUNK.none);
  expect(disk.content.equals(before)).toBe(true);
  expect(server.counters.errors).toBe(14);
});

test("block status covers what was asked, of each context, and with REQ_ONE one extent", async () => {
  disk.content.fill(0, 4096, 8192);
  disk.dirty.add(1);
  const client = await open({ contexts: ["base:allocation", "qemu:dirty-bitmap:test"] });
  const extents = (body: Buffer): number[][] =>
    Array.from({ length: (body.length - 4) / 8 }, (_, index) => [
      body.readUInt32BE(4 + index * 8),
      body.readUInt32BE(8 + index * 8),
    ]);
  client.request(CMD.blockStatus, 1, 0, 16_384);
  const [allocation, dirty] = [await client.chunk(), await client.chunk()];
  expect([allocation.flags, dirty.flags]).toEqual([0, 1]);
  expect(extents(allocation.body)).toEqual([
    [4096, 0],
    [4096, 3],
    [8192, 0],
  ]);
  expect(extents(dirty.body)).toEqual([
    [4096, 0],
    [4096, 1],
    [8192, 0],
  ]);
  client.request(CMD.blockStatus, 2, 4096, 16_384, CMD_FLAG.reqOne);
  expect([extents((await client.chunk()).body), extents((await client.chunk()).body)]).toEqual([
    [[4096, 3]],
    [[4096, 1]],
  ]);
});

test("cache reads and sends nothing; counters count each command", async () => {
  const client = await open({ contexts: ["base:allocation"] });
  const read: number[] = [];
  const original = disk.read.bind(disk);
  disk.read = (offset, length) => {
    read.push(offset, length);
    return original(offset, length);
  };
  client.request(CMD.cache, 1, 100, 2 * MIB);
  expect((await client.chunk()).body.length).toBe(0);
  expect(read).toEqual([100, MIB, 100 + MIB, MIB]);
  for (const type of [CMD.trim, CMD.writeZeroes, CMD.flush, CMD.blockStatus, CMD.read]) {
    client.request(type, 2, 0, type === CMD.flush ? 0 : 4096);
    await client.chunk();
  }
  client.request(CMD.write, 3, 0, 10);
  client.send(Buffer.alloc(10));
  await client.chunk();
  expect(server.counters).toEqual({
    reads: 1,
    writes: 1,
    flushes: 1,
    trims: 1,
    writeZeroes: 1,
    blockStatuses: 1,
    caches: 1,
    bytesRead: 4096,
    bytesWritten: 10,
    errors: 0,
  });
});

describe("bounds", () => {
  test("a client that asks and does not listen stops being read", async () => {
    const client = await open();
    let begun = 0;
    const original = disk.read.bind(disk);
    disk.read = (offset, length) => {
      begun++;
      return original(offset, length);
    };
    client.socket.pause();
    for (let count = 0; count < 1000; count++) client.request(CMD.read, count, 0, MIB, CMD_FLAG.df);
    await new Promise((resolve) => setTimeout(resolve, 500));
    // 16 MiB lent until they are taken, and what the sockets' own buffers take.
    expect(begun).toBeLessThan(64);
    client.socket.resume();
    for (let count = 0; count < 1000; count++) expect((await client.chunk()).body.length).toBe(8 + MIB);
    expect(begun).toBe(1000);
  });

  test("a read that begins with a few bytes and a hole counts with all that it will hold", async () => {
    const gate = deferred();
    let begun = 0;
    let [lent, most] = [0, 0];
    disk.content.fill(0, 4096, 8192);
    const original = disk.read.bind(disk);
    disk.read = async (offset, length, into) => {
      if (offset === 0) {
        begun++;
        await gate.promise;
      }
      lent += into?.length ?? 0;
      most = Math.max(most, lent);
      await new Promise((resolve) => setTimeout(resolve, 20));
      lent -= into?.length ?? 0;
      return original(offset, length, into);
    };
    const client = await open();
    for (let count = 0; count < 32; count++) client.request(CMD.read, count, 0, 8 * MIB);
    const deadline = performance.now() + 200;
    while (begun < 32 && performance.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 5));
    gate.resolve();
    let received = 0;
    for (let left = 32; left > 0; ) {
      const { flags = 0, type, body } = await client.chunk();
      received += type === CHUNK.offsetHole ? body.readUInt32BE(8) : body.length - 8;
      if ((flags & 1) !== 0) left--;
    }
    expect(received).toBe(32 * 8 * MIB);
    // What may be lent to one connection, and one request more.
    expect(most).toBeLessThanOrEqual((16 + 8) * MIB);
  });

  test("buffers that are used again never mix up answers", async () => {
    const original = disk.read.bind(disk);
    disk.read = async (offset, length, into) => {
      // Whoever is lent a buffer that is not free overwrites what another still needs.
      into?.fill(0xee);
      if (offset % 3 === 0) await new Promise((resolve) => setTimeout(resolve, offset % 5));
      return original(offset, length, into);
    };
    const client = await open();
    const wanted = new Map<bigint, Buffer>();
    for (let count = 0; count < 600; count++) {
      const length = 1 + ((count * 7919) % 12_000);
      const offset = (count * 104_729) % (disk.size - length);
      wanted.set(BigInt(count), disk.content.subarray(offset, offset + length));
      client.request(CMD.read, count, offset, length, CMD_FLAG.df);
    }
    for (let count = 0; count < 600; count++) {
      const { cookie, body } = await client.chunk();
      expect(body.subarray(8).equals(wanted.get(cookie) ?? Buffer.alloc(0))).toBe(true);
      wanted.delete(cookie);
    }
    expect(wanted.size).toBe(0);
  });

  test("no more than 128 requests of a connection are carried out at once, and other connections go on", async () => {
    const gate = deferred();
    let under = 0;
    disk.flush = async () => {
      under++;
      await gate.promise;
    };
    const client = await open();
    for (let count = 0; count < 1000; count++) client.request(CMD.flush, count, 0, 0);
    const other = await open();
    other.request(CMD.read, 1, 0, 10);
    await other.chunk();
    while (under < 128) await new Promise((resolve) => setTimeout(resolve, 5));
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(under).toBe(128);
    gate.resolve();
    for (let count = 0; count < 1000; count++) await client.chunk();
  });
});

test("a write that was announced and not sent is not carried out", async () => {
  const before = Buffer.from(disk.content);
  const client = await open();
  client.request(CMD.write, 1, 0, MIB);
  client.send(Buffer.alloc(MIB - 1));
  await new Promise((resolve) => setTimeout(resolve, 50));
  client.close();
  while (server.openConnections > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  expect(disk.content.equals(before)).toBe(true);
  expect(server.counters.writes).toBe(0);
});

test("after a disconnect request everything under way is still answered", async () => {
  const gate = deferred();
  const original = disk.read.bind(disk);
  disk.read = async (offset, length) => {
    await gate.promise;
    return original(offset, length);
  };
  const client = await open();
  client.request(CMD.read, 1, 0, 100);
  client.request(CMD.disc, 2, 0, 0);
  client.request(CMD.read, 3, 0, 100);
  await new Promise((resolve) => setTimeout(resolve, 20));
  gate.resolve();
  expect((await client.chunk()).cookie).toBe(1n);
  await expect(client.read(1)).rejects.toMatchObject({ code: "NBD_DISCONNECTED" });
});
