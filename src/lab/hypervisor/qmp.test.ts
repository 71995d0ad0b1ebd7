import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { GuestAgent } from "./guest-agent.ts";
import { QmpClient } from "./qmp.ts";

let directory: string;
let server: Server | undefined;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "qmp-"));
});

afterEach(async () => {
  await new Promise((resolve) => (server === undefined ? resolve(undefined) : server.close(resolve)));
  await rm(directory, { recursive: true, force: true });
});

/** Answers each line that comes in with what `answer` gives; `greeting` goes out first. */
async function peer(greeting: string, answer: (message: { execute: string; id?: number }) => string): Promise<string> {
  const path = join(directory, "socket");
  server = createServer((socket) => {
    socket.write(greeting);
    socket.on("error", () => undefined);
    socket.on("data", (data) => {
      for (const line of data.toString().split("\n").filter(Boolean)) {
        const reply = answer(JSON.parse(line));
        if (reply === "hang up") socket.destroy();
        else socket.write(reply);
      }
    });
  });
  await new Promise<void>((resolve) => server?.listen(path, resolve));
  return path;
}

test("replies in another order find their commands, events come in between", async () => {
  const held: string[] = [];
  const path = await peer('{"QMP": {}}\r\n', ({ execute, id }) => {
    const reply = `{"return": "${execute}", "id": ${id}}\r\n`;
    if (execute === "first") {
      held.push(reply);
      return "";
    }
    const timestamp = '"timestamp": {"seconds": 2, "microseconds": 500500}';
    return `{"event": "STOP", "data": {"why": "test"}, ${timestamp}}\r\n${reply}${held.join("")}`;
  });
  const events: unknown[] = [];
  const client = await QmpClient.connect(path, (event) => events.push(event));
  expect(await Promise.all([client.execute("first"), client.execute("second")])).toEqual(["first", "second"]);
  expect(events).toContainEqual({ event: "STOP", data: { why: "test" }, at: 2500.5 });
  client.close();
  await client.closed;
});

test("a refused command and a lost connection are errors", async () => {
  const path = await peer('{"QMP": {}}\r\n', ({ execute, id }) => {
    if (execute === "gone") return "hang up";
    return execute === "bad"
      ? `{"error": {"class": "GenericError", "desc": "no such thing"}, "id": ${id}}\n`
      : `{"return": {}, "id": ${id}}\n`;
  });
  const client = await QmpClient.connect(path, () => undefined);
  await expect(client.execute("bad")).rejects.toMatchObject({ code: "QMP_COMMAND_FAILED" });
  await expect(client.execute("gone")).rejects.toMatchObject({ code: "QEMU_UNREACHABLE" });
  await client.closed;
  await expect(client.execute("after")).rejects.toMatchObject({ code: "QEMU_UNREACHABLE" });
});

test("the agent's answers to an earlier host are passed over", async () => {
  const path = await peer('\xff{"return": 17}\n{"return": {"stale": true}}\nnoise\n', (message) => {
    const { id } = (message as { arguments?: { id: number } }).arguments ?? {};
    return id === undefined ? '{"return": {"fresh": true}}\n' : `{"return": 5}\n{"return": ${id}}\n`;
  });
  const agent = new GuestAgent(path, 100);
  expect(await agent.execute("guest-ping", 5_000)).toEqual({ fresh: true });
  expect(await agent.execute("guest-info", 5_000)).toEqual({ fresh: true });
  agent.close();
});

test("a silent agent is given up in time", async () => {
  const path = await peer("", () => "");
  const agent = new GuestAgent(path);
  await expect(agent.execute("guest-ping", 50)).rejects.toMatchObject({ code: "GUEST_AGENT_SILENT" });
  agent.close();
});
