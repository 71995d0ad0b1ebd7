import { writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { testAuthority } from "../../base/testing/certificates.ts";
import { Repository } from "../repository.ts";
import { HastyClock } from "../testing/hasty-clock.ts";
import { RcloneServer } from "../testing/rclone.ts";
import { noise, ResticRepository } from "../testing/restic.ts";
import { RestBackend } from "./rest.ts";

let restic: ResticRepository;
const content = noise(3_000_000, 11);
const config = { type: "config", name: "" } as const;
const clock = new HastyClock();

beforeAll(async () => {
  restic = await ResticRepository.create(2);
  await restic.backUp({ "root.img": content });
}, 120_000);
afterAll(() => restic.remove());

test("reads a repository that rclone serves, and pins in it", async () => {
  const rclone = await RcloneServer.start(restic.directory);
  const repository = await Repository.open(new RestBackend(rclone.url), restic.password, { threads: 1 });
  const [snapshot] = await repository.snapshots();
  if (snapshot === undefined) throw new Error("no snapshot");
  const tree = await repository.browse(snapshot);
  expect((await repository.readFile(await tree.file("/root.img"), 10e6)).equals(content)).toBe(true);
  await repository.pin(snapshot.id, "uid", { hostname: "test", pid: 1 }, Date.now);
  expect(await repository.isPinned("uid")).toBe(true);
  await repository.unpin("uid");
  expect(await repository.isPinned("uid")).toBe(false);
  await repository.close();
  await rclone.stop();
});

test("user name and password: wrong ones are refused, and new ones are taken up", async () => {
  const rclone = await RcloneServer.start(restic.directory, ["--user", "me", "--pass", "s3cret:ü"]);
  let password = "old s3cret";
  const asked: boolean[] = [];
  const backend = new RestBackend(rclone.url, {
    clock,
    credentials: async (renew) => {
      asked.push(renew);
      return { username: "me", password };
    },
  });
  const error = await backend.readAll(config, 1000).catch((caught: unknown) => caught);
  expect(error).toMatchObject({ code: "REPOSITORY_FORBIDDEN" });
  expect(JSON.stringify(error) + String(error)).not.toContain("s3cret");
  expect(asked).toEqual([false, true]);
  password = "s3cret:ü";
  expect((await backend.readAll(config, 1000)).length).toBeGreaterThan(32);
  await backend.close();
  await rclone.stop();
});

test("a server that only adds: what it will not remove is read-only", async () => {
  const rclone = await RcloneServer.start(restic.directory, ["--append-only"]);
  const backend = new RestBackend(rclone.url, { clock });
  const [name = ""] = await backend.list("snapshots");
  await expect(backend.remove({ type: "snapshots", name })).rejects.toMatchObject({ code: "REPOSITORY_READ_ONLY" });
  expect(await backend.list("snapshots")).toContain(name);
  await backend.close();
  await rclone.stop();
});

test("a URL with credentials in it is refused: URLs are told", () => {
  expect(() => new RestBackend("https://user:s3cret@backup/")).toThrow(
    expect.objectContaining({ code: "REPOSITORY_UNSUPPORTED", message: expect.not.stringContaining("s3cret") }),
  );
});

test("a server's certificate: trusted by its own authority only", async () => {
  const authority = await testAuthority();
  const { cert, key } = await authority.issue("server", ["127.0.0.1"]);
  const [certFile, keyFile] = [join(restic.directory, "..", "cert.pem"), join(restic.directory, "..", "key.pem")];
  await writeFile(certFile, cert);
  await writeFile(keyFile, key);
  const rclone = await RcloneServer.start(restic.directory, ["--cert", certFile, "--key", keyFile]);
  const trusting = new RestBackend(rclone.url, { ca: authority.ca, clock });
  expect((await trusting.readAll(config, 1000)).length).toBeGreaterThan(32);
  await trusting.close();
  const other = await testAuthority("another authority");
  for (const options of [{ ca: other.ca }, {}]) {
    const wary = new RestBackend(rclone.url, { ...options, clock });
    await expect(wary.readAll(config, 1000)).rejects.toMatchObject({
      code: "REPOSITORY_UNTRUSTED",
      hint: expect.stringContaining("CA"),
    });
    await wary.close();
  }
  await rclone.stop();
});

describe("what a server lists", () => {
  const names = ["a".repeat(64), "b".repeat(64)];
  let server: Server;
  let body = "";
  let backend: RestBackend;

  beforeAll(async () => {
    server = createServer((_request, response) => response.end(body));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    backend = new RestBackend(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, { clock });
  });
  afterAll(async () => {
    await backend.close();
    await new Promise((resolve) => server.close(resolve));
  });

  test.each([
    ["with sizes (version 2)", JSON.stringify(names.map((name) => ({ name, size: 3 }))), names],
    ["as names (version 1)", JSON.stringify(names), names],
    ["as null", "null", []],
    ["among other things", JSON.stringify([...names, "../x", 7, null, { name: "tmp" }, [names[0]]]), names],
  ])("%s", async (_how, given, expected) => {
    body = given;
    expect(await backend.list("snapshots")).toEqual(expected);
  });

  test.each(["", "<html></html>", '{"error": 1}', "[".repeat(100_000)])("is no listing: %#", async (given) => {
    body = given;
    await expect(backend.list("snapshots")).rejects.toMatchObject({ code: "REPOSITORY_UNREACHABLE" });
  });
});
