import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { KubeConfig } from "@kubernetes/client-node";
import { ApiError } from "./errors.ts";
import { Transport } from "./transport.ts";

let server: Server;
let transport: Transport;
let answers: number[];
let reply: (response: ServerResponse, request: IncomingMessage) => void;

beforeEach(async () => {
  answers = [];
  server = createServer((request, response) => reply(response, request));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const config = new KubeConfig();
  config.loadFromClusterAndUser({ name: "c", server: `http://127.0.0.1:${port}`, skipTLSVerify: true }, { name: "u" });
  transport = new Transport(config, { onAnswer: (_, status) => answers.push(status) });
});

afterEach(async () => {
  transport.close();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

/** No request of ours asks for that. */
function speakSomethingElse({ socket }: ServerResponse): void {
  socket?.write("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n");
}

const list = () => transport.request({ method: "GET", path: "/api/v1/pods" });

test("a request is told of a server that begins to speak something else, and the next one is answered", async () => {
  reply = speakSomethingElse;
  await expect(list()).rejects.toBeInstanceOf(ApiError);
  reply = (response) => response.end("{}");
  await expect(list()).resolves.toEqual({});
  reply = speakSomethingElse;
  // On the connection that was kept.
  await expect(list()).rejects.toBeInstanceOf(ApiError);
  expect(answers).toEqual([0, 200, 0]);
});

test("a watch is told of it", async () => {
  reply = speakSomethingElse;
  const watch = transport.watch("/api/v1/pods?watch=true", new AbortController().signal);
  await expect(watch.next()).rejects.toBeInstanceOf(ApiError);
});

test("a connection that breaks off without an answer is told as before", async () => {
  reply = (_, { socket }) => socket.destroy();
  await expect(list()).rejects.toMatchObject({ message: expect.stringMatching(/socket hang up|ECONNRESET/) });
});
