import { randomBytes } from "node:crypto";
import { connect, type Socket } from "node:net";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import fc from "fast-check";
import { ByteWriter } from "../base/bytes.ts";
import { CHUNK, CHUNK_DONE, CMD, CMD_FLAG, ERRNO, EXTENT_LIMIT, IHAVEOPT, OPT, REQUEST_MAGIC } from "./protocol.ts";
import { NbdServer } from "./server.ts";
import { MemoryExport } from "./testing/memory-export.ts";
import { contextBody, infoBody, RawClient } from "./testing/raw-client.ts";

const SIZE = 300_000;
const LIMIT_MS = 5000;

let server: NbdServer;
let disk: MemoryExport;
let port: number;
const unhandled: unknown[] = [];
const onUnhandled = (reason: unknown): void => void unhandled.push(reason);

beforeEach(async () => {
  server = new NbdServer();
  disk = new MemoryExport("root", randomBytes(SIZE));
  server.addExport(disk);
  server.addExport(new MemoryExport("fixed", Buffer.alloc(SIZE, 7), true));
  port = await server.listen({ address: "127.0.0.1", port: 0 });
  process.on("unhandledRejection", onUnhandled);
});

afterEach(async () => {
  process.off("unhandledRejection", onUnhandled);
  await server.close();
  expect(unhandled.splice(0)).toEqual([]);
});

async function until(what: string, holds: () => boolean): Promise<void> {
  const deadline = performance.now() + LIMIT_MS;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

/** Sends everything, in pieces, and hangs up. */
async function say(bytes: Buffer, pieceBytes: number): Promise<void> {
  const socket: Socket = connect({ port, host: "127.0.0.1" });
  socket.on("error", () => undefined);
  socket.resume();
  await new Promise((resolve) => socket.once("connect", resolve));
  for (let at = 0; at < bytes.length && !socket.destroyed; at += pieceBytes) {
    socket.write(bytes.subarray(at, at + pieceBytes));
    await new Promise(setImmediate);
  }
  socket.end();
  await new Promise((resolve) => (socket.closed ? resolve(undefined) : socket.once("close", resolve)));
}

const word = fc.oneof(fc.nat(20), fc.constantFrom(0x7fffffff, 0x80000000, 0xffffffff), fc.nat(0xffffffff));
const name = fc.constantFrom("root", "fixed", "", "nothing", "n".repeat(5000));
const query = fc.constantFrom("base:allocation", "qemu:", "base:", "qemu:dirty-bitmap:test", "", ":", "x".repeat(5000));

const body = fc.oneof(
  fc.uint8Array({ maxLength: 64 }).map((bytes) => Buffer.from(bytes)),
  name.map((text) => infoBody(text)),
  fc.tuple(name, fc.array(query, { maxLength: 5 })).map(([text, queries]) => contextBody(text, queries)),
  fc.constant(Buffer.alloc(0)),
);

const option = fc
  .record({
    type: fc.oneof(fc.constantFrom(...Object.values(OPT)), fc.nat(0xffffffff)),
    body,
    /** Words of the body that lie. */
    lies: fc.array(fc.tuple(fc.nat(40), word), { maxLength: 2 }),
    length: fc.option(word, { freq: 12 }),
    magic: fc.option(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), { freq: 20 }),
  })
  .map(({ type, body: genuine, lies, length, magic }) => {
    const bytes = Buffer.from(genuine);
    for (const [at, value] of lies) if (at + 4 <= bytes.length) bytes.writeUInt32BE(value, at);
    const head = new ByteWriter().u64be(magic ?? IHAVEOPT).u32be(type);
    return head
      .u32be(length ?? bytes.length)
      .bytes(bytes)
      .finish();
  });

test("whatever is haggled about, a negotiation ends, and others are served", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(option, { maxLength: 12 }),
      fc.oneof({ weight: 6, arbitrary: fc.constantFrom(1, 3) }, { weight: 1, arbitrary: word }),
      fc.constantFrom(1, 7, 100_000),
      async (options, clientFlags, pieceBytes) => {
        const flags = new ByteWriter().u32be(clientFlags).finish();
        const bytes = Buffer.concat([flags, ...options]);
        await say(bytes, bytes.length > 2000 ? 100_000 : pieceBytes);
        await until("the connection is gone", () => server.openConnections === 0);
      },
    ),
    { numRuns: 300 },
  );
  const client = await RawClient.connect(port);
  await client.go("root");
  client.request(CMD.read, 1, 0, 10);
  expect((await client.simple(10)).body.equals(disk.content.subarray(0, 10))).toBe(true);
  client.close();
});

interface Request {
  readonly type: number;
  readonly flags: number;
  readonly offset: bigint;
  readonly length: number;
}

const KNOWN_FLAGS = Object.values(CMD_FLAG).reduce((all, flag) => all | flag, 0);
const DATA_COMMANDS = new Set<number>([CMD.read, CMD.write, CMD.trim, CMD.cache, CMD.writeZeroes, CMD.blockStatus]);

const request: fc.Arbitrary<Request> = fc
  .record({
    type: fc.oneof(
      { weight: 8, arbitrary: fc.constantFrom(...Object.values(CMD).filter((type) => type !== CMD.disc)) },
      { weight: 1, arbitrary: fc.integer({ min: 8, max: 0xffff }) },
    ),
    flags: fc.oneof({ weight: 8, arbitrary: fc.nat(15) }, { weight: 1, arbitrary: fc.nat(0xffff) }),
    offset: fc.oneof(
      fc.bigInt(0n, BigInt(SIZE)),
      fc.constantFrom(BigInt(SIZE) - 1n, BigInt(SIZE), 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n),
    ),
    length: fc.oneof(fc.nat(5000), fc.constantFrom(0, SIZE, SIZE + 1, 0xffffffff)),
  })
  // A write's payload follows: one that is too long to send ends the connection, which another test shows.
  .map(({ length, ...rest }) => ({ ...rest, length: rest.type === CMD.write ? Math.min(length, SIZE + 1) : length }));

/** What the protocol wants, or undefined for success. */
function expectedError({ type, flags, offset, length }: Request, readOnly: boolean): number | undefined {
  if ((flags & ~KNOWN_FLAGS) !== 0) return ERRNO.inval;
  const changes = type === CMD.write || type === CMD.writeZeroes || type === CMD.trim;
  if (changes && readOnly) return ERRNO.perm;
  if (type !== CMD.flush && offset + BigInt(length) > BigInt(SIZE))
    return type === CMD.write || type === CMD.writeZeroes ? ERRNO.nospc : ERRNO.inval;
  if (type === CMD.writeZeroes && (flags & CMD_FLAG.fastZero) !== 0) return ERRNO.notsup;
  if (type === CMD.blockStatus && length === 0) return ERRNO.inval;
  return DATA_COMMANDS.has(type) || type === CMD.flush ? undefined : ERRNO.inval;
}

test("every request is answered once, with what the protocol wants, whatever its header says", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(request, { minLength: 1, maxLength: 60 }), fc.boolean(), async (requests, readOnly) => {
      const client = await RawClient.connect(port);
      const target = readOnly ? "fixed" : "root";
      await client.option(OPT.structuredReply);
      await client.option(OPT.setMetaContext, contextBody(target, ["base:allocation", "qemu:dirty-bitmap:test"]));
      await client.go(target);
      for (const [cookie, { type, flags, offset, length }] of requests.entries()) {
        client.request(type, cookie, offset, length, flags);
        if (type === CMD.write) client.send(Buffer.alloc(length, cookie));
      }
      const open = new Map(requests.map((each, cookie) => [BigInt(cookie), { ...each, bytes: 0, error: 0 }]));
      while (open.size > 0) {
        const chunk = await client.chunk();
        const asked = open.get(chunk.cookie);
        if (asked === undefined) throw new Error(`an answer to ${chunk.cookie}, which is not open`);
        if (chunk.type === CHUNK.error) asked.error = chunk.body.readUInt32BE(0);
        if (chunk.type === CHUNK.offsetData) asked.bytes += chunk.body.length - 8;
        if (chunk.type === CHUNK.offsetHole) asked.bytes += chunk.body.readUInt32BE(8);
        if (((chunk.flags ?? 0) & CHUNK_DONE) === 0) continue;
        open.delete(chunk.cookie);
        const error = expectedError(asked, readOnly);
        expect([asked, asked.error]).toEqual([asked, error ?? 0]);
        expect(asked.bytes).toBe(asked.type === CMD.read && error === undefined ? asked.length : 0);
      }
      client.close();
    }),
    { numRuns: 100 },
  );
  await until("all are gone", () => server.openConnections === 0);
});

test("bytes that are no request end their own connection at most", async () => {
  const go = new ByteWriter().u32be(3).u64be(IHAVEOPT).u32be(OPT.go).u32be(10).bytes(infoBody("root")).finish();
  const header = new ByteWriter()
    .u32be(REQUEST_MAGIC)
    .u16be(0)
    .u16be(CMD.write)
    .u64be(1n)
    .u64be(0n)
    .u32be(64)
    .zeros(64);
  const genuine = Buffer.concat([go, header.finish(), header.finish()]);
  const change = fc.tuple(fc.integer({ min: go.length, max: genuine.length - 1 }), fc.nat(255));
  await fc.assert(
    fc.asyncProperty(fc.array(change, { maxLength: 8 }), fc.nat(genuine.length), async (changes, cut) => {
      const mutated = Buffer.from(genuine);
      for (const [at, value] of changes) mutated[at] = value;
      await say(mutated.subarray(0, Math.max(go.length, cut)), 50);
      await until("the connection is gone", () => server.openConnections === 0);
    }),
    { numRuns: 200 },
  );
});

test("a block status tells 2^20 extents at most", async () => {
  disk.blockStatus = (_, __, length) =>
    Array.from({ length: EXTENT_LIMIT + 5 }, (_each, index) => ({ length: Math.min(1, length), flags: index % 2 }));
  const client = await RawClient.connect(port);
  await client.option(OPT.structuredReply);
  await client.option(OPT.setMetaContext, contextBody("root", ["base:allocation"]));
  await client.go("root");
  client.request(CMD.blockStatus, 1, 0, SIZE);
  const { type, body: extents } = await client.chunk();
  expect([type, extents.length]).toEqual([CHUNK.blockStatus, 4 + EXTENT_LIMIT * 8]);
  client.close();
});
