import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server } from "node:net";
import { Worker } from "node:worker_threads";
import { afterEach, expect, test } from "@jest/globals";
import { type Listener, listenersOf } from "./service-proxy.ts";

const worker = { current: undefined as Worker | undefined };
const servers: Server[] = [];

afterEach(async () => {
  await worker.current?.terminate();
  for (const server of servers.splice(0)) server.close();
});

async function pod(name: string): Promise<{ address: string; port: number }> {
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.write(`${name}\n`);
    socket.on("data", (piece) => socket.write(piece));
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { address: "127.0.0.1", port: (server.address() as AddressInfo).port };
}

function proxy(): (listeners: Listener[]) => void {
  const started = new Worker(new URL("./proxy-worker.ts", import.meta.url));
  worker.current = started;
  return (listeners) => started.postMessage(listeners);
}

async function talk(port: number): Promise<{ said: string; closed: Promise<unknown>; end: () => void }> {
  for (;;) {
    const socket = connect({ host: "127.61.3.9", port });
    socket.on("error", () => {});
    const first = await new Promise<string | undefined>((resolve) => {
      socket.once("data", (data) => resolve(String(data)));
      socket.once("close", () => resolve(undefined));
    });
    if (first !== undefined) return { said: first.trim(), closed: once(socket, "close"), end: () => socket.destroy() };
    await new Promise((resolve) => setTimeout(resolve, 20)); // it does not listen yet
  }
}

test("connections reach the ready pod, wait while there is none, and end when another takes its place", async () => {
  const tell = proxy();
  const at = { address: "127.61.3.9", port: 30_007, isNfs: false };
  tell([{ ...at, target: undefined }]);
  const early = talk(at.port);
  const [a, b] = [await pod("a"), await pod("b")];
  await new Promise((resolve) => setTimeout(resolve, 200));
  tell([{ ...at, target: a }]);
  const first = await early;
  expect(first.said).toBe("a");
  tell([{ ...at, target: undefined }]); // not ready for a moment: what is open stays open
  tell([{ ...at, target: b }]);
  await first.closed;
  const second = await talk(at.port);
  expect(second.said).toBe("b");
  tell([]);
  await second.closed;
});

test("of an NFS server that goes away in the middle of a reply, its client gets the whole ones before and an orderly end", async () => {
  const tell = proxy();
  const reply = (text: string): Buffer => Buffer.concat([Buffer.from([0x80, 0, 0, text.length]), Buffer.from(text)]);
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => {
      socket.write(Buffer.concat([reply("whole"), reply("broken off").subarray(0, 9)]));
      setTimeout(() => socket.resetAndDestroy(), 100);
    });
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const target = { address: "127.0.0.1", port: (server.address() as AddressInfo).port };
  const at = { address: "127.61.3.9", port: 30_009, isNfs: true };
  tell([{ ...at, target }]);
  for (;;) {
    const client = connect({ host: at.address, port: at.port });
    const outcome = await new Promise<Buffer | undefined>((resolve) => {
      const got: Buffer[] = [];
      client.on("error", () => resolve(undefined)); // it does not listen yet
      client.on("data", (piece) => got.push(piece));
      client.once("end", () => resolve(Buffer.concat(got)));
      client.write(Buffer.from([0x80, 0, 0, 4, 0, 0, 0, 0]));
    });
    client.destroy();
    if (outcome === undefined) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      continue;
    }
    expect(outcome).toEqual(reply("whole"));
    break;
  }
});

test("listeners come from Services with a loopback address and the ready pods they select", () => {
  const service = (clusterIP: string) => ({
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "agent", namespace: "ns" },
    spec: {
      clusterIP,
      selector: { app: "agent" },
      ports: [
        { name: "nfs", port: 2049, targetPort: "nfs" },
        { name: "control", port: 8443 },
      ],
    },
  });
  const candidate = (name: string, ready: string, deletionTimestamp?: string) => ({
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name,
      namespace: "ns",
      labels: { app: "agent" },
      ...(deletionTimestamp === undefined ? {} : { deletionTimestamp }),
    },
    spec: { containers: [{ ports: [{ name: "nfs", containerPort: 12_049 }] }] },
    status: { phase: "Running", podIP: "127.97.0.4", conditions: [{ type: "Ready", status: ready }] },
  });
  const ready = [
    { address: "127.96.0.9", port: 2049, isNfs: true, target: { address: "127.97.0.4", port: 12_049 } },
    { address: "127.96.0.9", port: 8443, isNfs: false, target: { address: "127.97.0.4", port: 8443 } },
  ];
  expect(listenersOf([service("127.96.0.9")], [candidate("a", "True")])).toEqual(ready);
  const none = ready.map((listener) => ({ ...listener, target: undefined }));
  expect(
    listenersOf([service("127.96.0.9")], [candidate("a", "False"), candidate("b", "True", "2026-01-01T00:00:00Z")]),
  ).toEqual(none);
  expect(listenersOf([service("10.0.0.7"), service("None")], [candidate("a", "True")])).toEqual([]);
});
