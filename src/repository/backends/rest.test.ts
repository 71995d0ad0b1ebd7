import { type ChildProcess, spawn } from "node:child_process";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { Repository } from "../repository.ts";
import { noise, ResticRepository } from "../testing/restic.ts";
import { RestBackend } from "./rest.ts";

let restic: ResticRepository;
let rclone: ChildProcess;
let url: string;
const content = noise(3_000_000, 11);

beforeAll(async () => {
  restic = await ResticRepository.create(2);
  await restic.backUp({ "root.img": content });
  rclone = spawn("rclone", ["serve", "restic", "--addr", "127.0.0.1:0", restic.directory], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  url = await new Promise((resolve) => {
    rclone.stderr?.setEncoding("utf8").on("data", (text: string) => {
      const found = /http:\/\/[\d.]+:\d+\//.exec(text)?.[0];
      if (found !== undefined) resolve(found);
    });
  });
}, 30_000);

afterAll(async () => {
  rclone.kill("SIGKILL");
  await restic.remove();
});

test("reads a repository that rclone serves, and pins in it", async () => {
  const repository = await Repository.open(new RestBackend(url), restic.password, { threads: 1 });
  const [snapshot] = await repository.snapshots();
  if (snapshot === undefined) throw new Error("no snapshot");
  const tree = await repository.browse(snapshot);
  expect((await repository.readFile(await tree.file("/root.img"), 10e6)).equals(content)).toBe(true);
  await repository.pin(snapshot.id, "uid", { hostname: "test", pid: 1 }, Date.now);
  expect(await repository.isPinned("uid")).toBe(true);
  await repository.unpin("uid");
  expect(await repository.isPinned("uid")).toBe(false);
  await repository.close();
});

test("what is missing is said to be missing, and nobody there is unreachable", async () => {
  const backend = new RestBackend(url);
  const missing = { type: "data", name: "0".repeat(64) } as const;
  expect(await backend.exists(missing)).toBe(false);
  await expect(backend.readRange(missing, 0, 10)).rejects.toMatchObject({ code: "REPOSITORY_OBJECT_MISSING" });
  await backend.remove(missing);
  await backend.close();
  const nobody = new RestBackend("http://user:s3cret@127.0.0.1:9/");
  const error = await nobody.readAll({ type: "config", name: "" }, 100).catch((caught: Error) => caught);
  expect(error).toMatchObject({ code: "REPOSITORY_UNREACHABLE" });
  expect(String(error)).not.toContain("s3cret");
  await nobody.close();
}, 20_000);

test("a fault that passes is tried again; too much or too little is refused", async () => {
  let asked = 0;
  const server: Server = createServer((request, response) => {
    asked++;
    if (request.url === "/config" && asked < 3) response.writeHead(503).end();
    else if (request.url === "/config") response.end("hello");
    else response.writeHead(206).end("short");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const backend = new RestBackend(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  expect((await backend.readAll({ type: "config", name: "" }, 100)).toString()).toBe("hello");
  expect(asked).toBe(3);
  const pack = { type: "data", name: "a".repeat(64) } as const;
  await expect(backend.readRange(pack, 0, 100)).rejects.toMatchObject({ code: "REPOSITORY_OBJECT_DAMAGED" });
  await expect(backend.readRange(pack, 0, 2)).rejects.toMatchObject({ code: "REPOSITORY_UNREACHABLE" });
  await backend.close();
  await new Promise((resolve) => server.close(resolve));
}, 20_000);

test("a server that lets nobody read is told from one that lets nobody write", async () => {
  const server: Server = createServer((_request, response) => response.writeHead(403).end());
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const backend = new RestBackend(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const file = { type: "snapshots", name: "a".repeat(64) } as const;
  await expect(backend.exists(file)).rejects.toMatchObject({ code: "REPOSITORY_FORBIDDEN" });
  await expect(backend.readAll(file, 10)).rejects.toMatchObject({ code: "REPOSITORY_FORBIDDEN" });
  await expect(backend.save(file, Buffer.from("x"))).rejects.toMatchObject({ code: "REPOSITORY_READ_ONLY" });
  await backend.close();
  await new Promise((resolve) => server.close(resolve));
});
