import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { deferred } from "../base/deferred.ts";
import { NfsServer } from "./server.ts";
import { MemoryExport } from "./testing/memory-export.ts";
import { RpcClient } from "./testing/rpc-client.ts";

const NFS = 100003;
const BLOCK = 512;
const BLOCKS = 4;
/** Of AUTH_SYS, behind the call's head, the flavor and the length. */
const STAMP_AT = 32;

let server: NfsServer;
let disk: MemoryExport;
let port: number;
let handle: Buffer;
const clients: RpcClient[] = [];

beforeEach(async () => {
  server = new NfsServer();
  disk = new MemoryExport("/export", Buffer.alloc(BLOCK * BLOCKS));
  server.addExport(disk);
  port = await server.listen("127.0.0.1", 0);
  handle = await (await connect()).fileHandle(disk.path);
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.abandon();
  await server.close();
});

async function connect(localAddress?: string): Promise<RpcClient> {
  const client = await RpcClient.connect(port, "127.0.0.1", localAddress);
  clients.push(client);
  return client;
}

async function until(holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!holds() && performance.now() < deadline) await delay(5);
}

const writeRecord = (client: RpcClient, offset: number, fill: number, stable = 2): Buffer =>
  client.encode(NFS, 7, client.writeArguments(handle, offset, Buffer.alloc(BLOCK, fill), stable));

/** The same call, encoded anew by a Linux before 5.1: with the time at which that was. */
function encodedAgain(record: Buffer, seconds: number): Buffer {
  const again = Buffer.from(record);
  again.writeUInt32BE(seconds, STAMP_AT);
  return again;
}

/** The status of a reply to a WRITE that was accepted. */
async function statusOf(client: RpcClient, record: Buffer): Promise<number> {
  const reply = await client.send(record);
  reply.skip(20);
  return reply.u32be();
}

test("a write that is sent again is carried out once, even over another connection, and never over a newer one", async () => {
  const [first, second] = [await connect(), await connect()];
  const gate = deferred();
  let begun = 0;
  disk.beforeWrite = async () => {
    if (begun++ === 0) await gate.promise;
  };
  const old = writeRecord(first, 0, 1);
  const answers = [first.send(old), first.send(old), second.send(old)];
  await until(() => server.duplicates.hits === 2);
  expect(begun).toBe(1);
  gate.resolve();
  await Promise.all(answers);
  expect(await statusOf(second, writeRecord(second, 0, 2))).toBe(0);
  // The same call, late, after something newer was written: answered as before, and not applied.
  const late = await second.send(old);
  late.skip(20);
  expect(late.u32be()).toBe(0);
  late.skip(4 + 4 + 84);
  expect([late.u32be(), late.u32be(), late.bytes(8).equals(server.verifier), late.remaining]).toEqual([
    BLOCK,
    2,
    true,
    0,
  ]);
  expect(disk.content[0]).toBe(2);
  expect(server.duplicates.hits).toBe(3);
});

test("one that is sent again with another stamp, or from another address, is the same: a gateway may have taken its place", async () => {
  const [client, elsewhere] = [await connect(), await connect("127.0.0.9")];
  const gate = deferred();
  let begun = 0;
  disk.beforeWrite = async () => {
    if (begun++ === 0) await gate.promise;
  };
  const old = writeRecord(client, 0, 1);
  const answers = [client.send(old), client.send(encodedAgain(old, 61)), elsewhere.send(old)];
  await until(() => server.duplicates.hits === 2);
  gate.resolve();
  await Promise.all(answers);
  expect(await statusOf(client, writeRecord(client, 0, 2))).toBe(0);
  for (const late of [encodedAgain(old, 121), old]) expect(await statusOf(elsewhere, late)).toBe(0);
  expect([begun, disk.content[0]]).toEqual([2, 2]);
});

test("calls of machines or users with other names are not the same, even with one XID and equal arguments", async () => {
  const client = await connect();
  let begun = 0;
  disk.beforeWrite = async () => {
    begun++;
  };
  const args = client.writeArguments(handle, 0, Buffer.alloc(BLOCK, 3), 2);
  const callers = [{ machine: "one" }, { machine: "two" }, { machine: "one", uid: 107 }];
  for (const caller of [...callers, ...callers])
    expect(await statusOf(client, client.encode(NFS, 7, args, 0x5555, caller))).toBe(0);
  expect([begun, server.duplicates.hits]).toEqual([3, 3]);
});

test("one that failed is answered the same again, and not tried where something newer may be", async () => {
  const client = await connect();
  disk.beforeWrite = async () => {
    throw Object.assign(new Error("no space"), { code: "OVERLAY_FULL" });
  };
  const old = writeRecord(client, 0, 1);
  expect(await statusOf(client, old)).toBe(28);
  disk.beforeWrite = async () => undefined;
  expect(await statusOf(client, writeRecord(client, 0, 2))).toBe(0);
  expect(await statusOf(client, old)).toBe(28);
  expect(disk.content[0]).toBe(2);
});

test("calls that differ in a byte behind the first kilobyte are not the same", async () => {
  const client = await connect();
  const xid = 0x7777;
  const call = (last: number): Buffer => {
    const data = Buffer.alloc(BLOCK * BLOCKS, 1);
    data[data.length - 1] = last;
    return client.encode(NFS, 7, client.writeArguments(handle, 0, data, 2), xid);
  };
  for (const last of [2, 3]) {
    expect(await statusOf(client, call(last))).toBe(0);
    expect(disk.content.at(-1)).toBe(last);
  }
  // Two under way at once, and each again.
  const gate = deferred();
  let begun = 0;
  disk.beforeWrite = async () => {
    begun++;
    await gate.promise;
  };
  const answers = [4, 5, 4, 5].map((last) => client.send(call(last)));
  await until(() => server.duplicates.hits === 2);
  expect([begun, server.duplicates.hits]).toEqual([2, 2]);
  gate.resolve();
  await Promise.all(answers);
  expect(await statusOf(client, call(5))).toBe(0);
  expect([begun, server.duplicates.hits]).toEqual([2, 3]);
});

test("whatever is sent again, over whichever connection and however late, the newest write stands", async () => {
  const step = fc.record({
    block: fc.nat(BLOCKS - 1),
    /** Milliseconds until the write is applied, longer than the client waits or not. */
    takes: fc.constantFrom(0, 0, 1, 3, 6),
    /** Milliseconds after which it is sent again, and over which connection. */
    again: fc.array(fc.tuple(fc.nat(5), fc.nat(2)), { maxLength: 3 }),
    connection: fc.nat(2),
    stable: fc.nat(2),
  });
  const connections = [await connect(), await connect(), await connect("127.0.0.9")] as const;
  let hits = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 2, maxLength: 12 }), async (steps) => {
      const model = Buffer.from(disk.content);
      const records: Buffer[] = [];
      const late: Promise<unknown>[] = [];
      let fill = model[0] ?? 0;
      for (const { block, takes, again, connection, stable } of steps) {
        fill = (fill + 1) % 256;
        // Every carrying out takes its time before it writes: one that came late would write late.
        disk.beforeWrite = () => (takes === 0 ? Promise.resolve() : delay(takes));
        const client = connections[connection] as RpcClient;
        const record = writeRecord(client, block * BLOCK, fill, stable);
        records.push(record);
        const answer = client.send(record);
        for (const [after, other] of again)
          late.push(delay(after).then(() => (connections[other] as RpcClient).send(encodedAgain(record, after))));
        await answer;
        model.fill(fill, block * BLOCK, (block + 1) * BLOCK);
      }
      await Promise.all(late);
      for (const record of records.reverse()) await connections[0].send(encodedAgain(record, 99));
      await delay(8);
      expect(disk.content.equals(model)).toBe(true);
      hits = server.duplicates.hits;
    }),
    { numRuns: 60 },
  );
  expect(hits).toBeGreaterThan(500);
});

describe("where calls are forgotten", () => {
  let forgottenUntil: () => number;

  beforeEach(async () => {
    await server.close();
    server = new NfsServer({ patienceMs: 50 });
    server.addExport(disk);
    port = await server.listen("127.0.0.1", 0);
    forgottenUntil = () => Number.NEGATIVE_INFINITY;
    // As if other clients wrote hundreds of thousands of times.
    Object.defineProperty(server.duplicates, "forgottenUntil", { get: () => forgottenUntil() });
  });

  test("input that has waited since before is not begun: its connection ends", async () => {
    const [stuck, other] = [await connect(), await connect()];
    const gate = deferred();
    let begun = 0;
    disk.beforeWrite = async () => {
      begun++;
      await gate.promise;
    };
    let refused = 0;
    // More than one connection may have under way: the last ones wait unread or unbegun.
    const waiting = Array.from({ length: 600 }, (_, index) =>
      stuck.send(writeRecord(stuck, (index % BLOCKS) * BLOCK, 1)).catch(() => {
        refused++;
      }),
    );
    await until(() => begun === 256);
    await delay(100);
    const then = server.now();
    forgottenUntil = () => then;
    await delay(50);
    gate.resolve();
    await Promise.all(waiting);
    expect(refused).toBeGreaterThanOrEqual(600 - 256);
    expect(stuck.socket.destroyed || stuck.socket.readableEnded).toBe(true);
    expect(await statusOf(other, writeRecord(other, 0, 9))).toBe(0);
    await delay(20);
    expect(disk.content[0]).toBe(9);
  });

  test("a client that always has more than may be under way goes on", async () => {
    // What it sends at once is less.
    Object.defineProperty(server, "kernelBytes", { value: 1024 * 1024 });
    const client = await connect();
    disk.beforeWrite = () => delay(1);
    // Far fewer than are really remembered, far more than wait here or in the kernel: 600 bytes each.
    const REMEMBERED = 30_000;
    const ended: number[] = [];
    forgottenUntil = () => ended.at(-REMEMBERED) ?? Number.NEGATIVE_INFINITY;
    const end = performance.now() + 3000;
    const keepWriting = async (): Promise<void> => {
      while (performance.now() < end) {
        expect(await statusOf(client, writeRecord(client, 0, ended.length % 256))).toBe(0);
        ended.push(server.now());
      }
    };
    await Promise.all(Array.from({ length: 700 }, keepWriting));
    expect(ended.length).toBeGreaterThan(700);
  });
});
