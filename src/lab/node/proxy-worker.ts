import { connect, createServer, type Server, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { parentPort } from "node:worker_threads";
import type { Listener } from "./service-proxy.ts";
import { StableWrites } from "./stable-writes.ts";
import { WholeReplies } from "./whole-replies.ts";

/** How long a new connection waits for a pod to be ready behind its Service. */
const WAIT_MS = 5000;
const LOOK_EVERY_MS = 50;
/** How long a client may take for the replies that were whole when its pod went away. */
const LAST_REPLIES_MS = 5000;

interface Served {
  readonly server: Server;
  readonly isNfs: boolean;
  target: Listener["target"];
  readonly sockets: Set<Socket>;
}

const served = new Map<string, Served>();

function serve(listener: Listener): Served {
  const sockets = new Set<Socket>();
  const entry: Served = {
    server: createServer({ allowHalfOpen: true, noDelay: true }),
    isNfs: listener.isNfs,
    target: listener.target,
    sockets,
  };
  entry.server.on("connection", (client) => {
    sockets.add(client);
    client.once("close", () => sockets.delete(client));
    client.on("error", () => client.destroy());
    client.pause();
    void forward(client, entry);
  });
  entry.server.on("error", (error) =>
    parentPort?.postMessage({ address: listener.address, port: listener.port, error: error.message }),
  );
  entry.server.listen(listener.port, listener.address);
  return entry;
}

async function forward(client: Socket, entry: Served): Promise<void> {
  const deadline = performance.now() + WAIT_MS;
  while (entry.target === undefined && performance.now() < deadline && !client.destroyed) await delay(LOOK_EVERY_MS);
  const { target } = entry;
  if (target === undefined || client.destroyed) {
    client.resetAndDestroy();
    return;
  }
  const pod = connect({ host: target.address, port: target.port, allowHalfOpen: true, noDelay: true });
  entry.sockets.add(pod);
  client.once("close", () => pod.destroy());
  if (!entry.isNfs) {
    pod.once("close", () => {
      entry.sockets.delete(pod);
      client.destroy();
    });
    pod.on("error", () => client.resetAndDestroy());
    client.pipe(pod);
    pod.pipe(client);
    return;
  }
  // From here on the connection ends with its pod's, after the last whole reply: see `WholeReplies`.
  entry.sockets.delete(client);
  const replies = new WholeReplies();
  replies.on("error", () => client.destroy());
  pod.on("error", () => undefined);
  pod.once("close", () => {
    entry.sockets.delete(pod);
    replies.end();
    // What else it asks is read and dropped: to close upon it would take the last replies back.
    client.unpipe();
    client.resume();
    setTimeout(() => client.destroy(), LAST_REPLIES_MS).unref();
  });
  client.pipe(new StableWrites()).pipe(pod);
  pod.pipe(replies).pipe(client);
}

parentPort?.on("message", (listeners: readonly Listener[]) => {
  const wanted = new Set(listeners.map(({ address, port }) => `${address}:${port}`));
  for (const [key, entry] of served) {
    if (wanted.has(key)) continue;
    served.delete(key);
    entry.server.close();
    for (const socket of entry.sockets) socket.destroy();
  }
  for (const listener of listeners) {
    const key = `${listener.address}:${listener.port}`;
    const entry = served.get(key);
    if (entry === undefined) {
      served.set(key, serve(listener));
      continue;
    }
    const isSame = entry.target?.address === listener.target?.address && entry.target?.port === listener.target?.port;
    entry.target = listener.target;
    // Connections to a pod that is gone must not linger; one that is only not ready keeps those it has.
    if (!isSame && listener.target !== undefined) for (const socket of entry.sockets) socket.destroy();
  }
});
