import { createServer, type Server, type Socket } from "node:net";
import { afterEach, expect, test } from "@jest/globals";
import { HttpClient } from "./http-client.ts";

const limits = { connect: 300, stall: 300, total: 600 };
const client = new HttpClient({ limits });
const sockets: Socket[] = [];
let server: Server;

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await new Promise((resolve) => server.close(resolve));
});

test.each([
  ["says that it speaks something else from now on", "HTTP/1.1 101 Other\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"],
  ["has one wait, and nothing more", "HTTP/1.1 100 Continue\r\n\r\n"],
  ["ends within a header", "HTTP/1.1 200 OK\r\nx: "],
])("a server that %s gives no answer, and that is told", async (_, said) => {
  server = createServer((socket) => {
    sockets.push(socket);
    socket.once("data", () => socket.write(said));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" ? address?.port : undefined;
  const url = new URL(`http://127.0.0.1:${port}/`);
  const failure = await client.send({ method: "GET", url, headers: {}, limit: 100 }).catch((error: unknown) => error);
  expect(failure).toMatchObject({ mayPass: true });
});
