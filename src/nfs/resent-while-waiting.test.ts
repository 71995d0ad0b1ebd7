import { randomBytes } from "node:crypto";
import { afterEach, beforeEach, expect, jest, test } from "@jest/globals";
import { ByteWriter } from "../base/bytes.ts";
import { type Deferred, deferred } from "../base/deferred.ts";
import { NfsServer } from "./server.ts";
import { MemoryExport } from "./testing/memory-export.ts";
import { RpcClient } from "./testing/rpc-client.ts";
import { writeOpaque } from "./xdr.ts";

const NFS = 100003;
jest.setTimeout(20_000);

const MIB = 1024 * 1024;
const BLOCK = 512;
const READ = 6;
const WRITE = 7;

let server: NfsServer;
let disk: MemoryExport;
let port: number;
let handle: Buffer;
let gate: Deferred<void>;
/** Writes, or reads, that were begun. */
let begun = 0;
const clients: RpcClient[] = [];

beforeEach(async () => {
  server = new NfsServer();
  disk = new MemoryExport("/export", randomBytes(16 * MIB));
  server.addExport(disk);
  port = await server.listen("127.0.0.1", 0);
  handle = await (await connect()).fileHandle(disk.path);
  gate = deferred();
  begun = 0;
});

afterEach(async () => {
  gate.resolve();
  for (const client of clients.splice(0)) client.abandon();
  await server.close();
});

async function connect(): Promise<RpcClient> {
  const client = await RpcClient.connect(port);
  clients.push(client);
  return client;
}

function holdWrites(): void {
  disk.beforeWrite = async () => {
    begun++;
    await gate.promise;
  };
}

const readArguments = (offset: number, length: number): Buffer =>
  writeOpaque(new ByteWriter(), handle).u64be(BigInt(offset)).u32be(length).finish();

/** The calls of a client that waits for all of them. */
function writes(client: RpcClient, count: number, bytes: number): Buffer[] {
  return Array.from({ length: count }, (_, index) =>
    client.encode(NFS, WRITE, client.writeArguments(handle, index * bytes, Buffer.alloc(bytes, index), 2)),
  );
}

async function statusOf(answer: Promise<{ skip(bytes: number): void; u32be(): number }>): Promise<number> {
  const reply = await answer;
  reply.skip(20);
  return reply.u32be();
}

/** As a client does that waits for its answers: it sends all of its calls again. */
function sendAgain(client: RpcClient, records: readonly Buffer[], times: number): void {
  for (let time = 0; time < times; time++) {
    for (const record of records) client.send(record).catch(() => undefined);
  }
}

test.each([
  ["fewer than may be under way", 200],
  ["more than may be under way", 400],
])("writes that wait hold up no read, however often they are sent again: %s", async (_, count) => {
  holdWrites();
  const client = await connect();
  const records = writes(client, count, BLOCK);
  const answers = records.map((record) => statusOf(client.send(record)));
  sendAgain(client, records, 5);
  const reply = await client.call(NFS, READ, readArguments(0, BLOCK));
  expect(reply.u32be()).toBe(0);
  expect(begun).toBe(Math.min(count, 256));
  gate.resolve();
  expect(new Set(await Promise.all(answers))).toEqual(new Set([0]));
  expect(begun).toBe(count);
});

test("nor do they where the client comes back over one connection after the other", async () => {
  holdWrites();
  let client = await connect();
  const records = writes(client, 12, MIB);
  let answers: Promise<number>[] = [];
  for (let time = 0; time < 7; time++) {
    answers = records.map((record) => statusOf(client.send(record)));
    expect((await client.call(NFS, READ, readArguments(0, MIB))).u32be()).toBe(0);
    if (time === 6) break;
    client.abandon();
    client = await connect();
  }
  expect(begun).toBe(records.length);
  expect(server.writeBudget.used).toBeLessThan((records.length + 1) * (MIB + 4096));
  gate.resolve();
  expect(new Set(await Promise.all(answers))).toEqual(new Set([0]));
  const written = Buffer.concat(records.map((_, index) => Buffer.alloc(MIB, index)));
  expect(disk.content.subarray(0, written.length).equals(written)).toBe(true);
});

test("reads that wait hold up no write, however often they are sent again", async () => {
  const original = disk.read.bind(disk);
  disk.read = async (offset, length, into) => {
    begun++;
    await gate.promise;
    return original(offset, length, into);
  };
  const client = await connect();
  const records = Array.from({ length: 400 }, (_, index) =>
    client.encode(NFS, READ, readArguments(index * BLOCK, BLOCK)),
  );
  const answers = records.map((record) => statusOf(client.send(record)));
  sendAgain(client, records, 5);
  const [write] = writes(client, 1, BLOCK) as [Buffer];
  expect(await statusOf(client.send(write))).toBe(0);
  gate.resolve();
  expect(new Set(await Promise.all(answers))).toEqual(new Set([0]));
  expect(begun).toBe(records.length);
});
