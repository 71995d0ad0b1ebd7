import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { NfsServer } from "./server.ts";
import { MemoryExport } from "./testing/memory-export.ts";
import { RpcClient } from "./testing/rpc-client.ts";

let server: NfsServer;
let disk: MemoryExport;
const clients: RpcClient[] = [];

beforeEach(() => {
  server = new NfsServer();
  disk = new MemoryExport("/export", Buffer.alloc(4096));
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.abandon();
  await server.close();
});

async function connect(port: number): Promise<RpcClient> {
  const client = await RpcClient.connect(port);
  clients.push(client);
  return client;
}

test("who comes before there is something to serve is connected, and answered once there is", async () => {
  server.hold();
  const client = await connect(await server.listen("127.0.0.1", 0));
  let isAnswered = false;
  const handle = client.fileHandle(disk.path).then((found) => {
    isAnswered = true;
    return found;
  });
  await delay(50);
  expect([isAnswered, server.openConnections]).toEqual([false, 1]);
  server.addExport(disk);
  server.release();
  expect((await handle).length).toBeGreaterThan(0);
  expect(server.openConnections).toBe(1);
  expect((await (await connect(client.socket.remotePort ?? 0)).fileHandle(disk.path)).length).toBe(
    (await handle).length,
  );
});

test("those that wait are bounded, and end with the server", async () => {
  server.hold();
  const port = await server.listen("127.0.0.1", 0);
  const all: RpcClient[] = [];
  for (let count = 0; count < 130; count++) all.push(await connect(port));
  const isClosed = (client: RpcClient | undefined) => client?.socket.destroyed === true;
  for (const client of all) client.socket.resume();
  while (!isClosed(all[1])) await delay(5);
  expect(all.filter(isClosed)).toHaveLength(2);
  await server.close();
  while (!all.every(isClosed)) await delay(5);
});
