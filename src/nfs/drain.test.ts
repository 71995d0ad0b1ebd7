import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { deferred } from "../base/deferred.ts";
import { NfsServer } from "./server.ts";
import { MemoryExport } from "./testing/memory-export.ts";
import { RpcClient } from "./testing/rpc-client.ts";

const NFS = 100003;
const WRITE = 7;
const BLOCK = 512;

let server: NfsServer;
let disk: MemoryExport;
let client: RpcClient;
let handle: Buffer;
let firsts: number[];
let now: number;

beforeEach(async () => {
  firsts = [];
  now = 1000;
  server = new NfsServer({ now: () => now, onFirstAnswer: (at) => firsts.push(at) });
  disk = new MemoryExport("/export", Buffer.alloc(4 * BLOCK));
  server.addExport(disk);
  client = await RpcClient.connect(await server.listen("127.0.0.1", 0));
  handle = await client.fileHandle(disk.path);
});

afterEach(async () => {
  client.abandon();
  await server.close();
});

const write = (block: number, fill: number): Buffer =>
  client.encode(NFS, WRITE, client.writeArguments(handle, block * BLOCK, Buffer.alloc(BLOCK, fill), 2));

test("a server that is to end answers what is under way, begins nothing more, and closes", async () => {
  const [gate, begun] = [deferred(), deferred()];
  disk.beforeWrite = async () => {
    begun.resolve();
    await gate.promise;
  };
  const underWay = client.send(write(0, 1));
  await begun.promise;
  let isDrained = false;
  const drained = server.drain(20_000).then(() => {
    isDrained = true;
  });
  const late = client.send(write(1, 2)).then(
    () => "answered",
    () => "not answered",
  );
  await delay(50);
  expect(isDrained).toBe(false);
  now = 2000;
  gate.resolve();
  (await underWay).skip(20);
  await drained;
  expect(server.lastAnswer).toBe(2000);
  expect(await late).toBe("not answered");
  expect([disk.content[0], disk.content[BLOCK]]).toEqual([1, 0]);
});

test("what takes too long is not waited for", async () => {
  const [gate, begun] = [deferred(), deferred()];
  disk.beforeWrite = async () => {
    begun.resolve();
    await gate.promise;
  };
  const underWay = client.send(write(0, 1)).catch(() => "not answered");
  await begun.promise;
  await server.drain(20);
  const closing = server.close();
  gate.resolve();
  await closing;
  expect(await underWay).toBe("not answered");
});

test("the first answer to a client that knows a path or a handle is told once, no stranger's", async () => {
  expect(firsts).toEqual([1000]);
  const stranger = new NfsServer({ onFirstAnswer: (at) => firsts.push(at) });
  const other = await RpcClient.connect(await stranger.listen("127.0.0.1", 0));
  await other.send(other.encode(NFS, 0, Buffer.alloc(0)));
  now = 5000;
  await client.send(write(0, 1));
  expect(firsts).toEqual([1000]);
  expect([server.lastAnswer, stranger.lastAnswer]).toEqual([5000, undefined]);
  other.abandon();
  await stranger.close();
});
