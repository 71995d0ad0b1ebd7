import { chmod, copyFile, rename, stat, truncate } from "node:fs/promises";
import { basename } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test } from "@jest/globals";
import { RestBackend } from "./backends/rest.ts";
import { Repository } from "./repository.ts";
import type { RepositoryFile } from "./repository-file.ts";
import { FaultProxy } from "./testing/fault-proxy.ts";
import { HastyClock } from "./testing/hasty-clock.ts";
import { RcloneServer } from "./testing/rclone.ts";
import { openFile } from "./testing/read-range.ts";
import { noise, ResticRepository } from "./testing/restic.ts";

const content = noise(40_000_000, 21);
let restic: ResticRepository;
let rclone: RcloneServer;
let proxy: FaultProxy;
let repository: Repository;
let file: RepositoryFile;

beforeAll(async () => {
  restic = await ResticRepository.create(2);
  const snapshot = await restic.backUp({ "root.img": content });
  rclone = await RcloneServer.start(restic.directory, ["--cache-objects=false"]);
  proxy = await FaultProxy.start(rclone.port);
  const backend = new RestBackend(proxy.url, { clock: new HastyClock() });
  repository = await Repository.open(backend, restic.password, { threads: 1 });
  file = await openFile(repository, snapshot, "/root.img");
}, 120_000);
afterAll(async () => {
  await repository?.close();
  await proxy?.stop();
  await rclone?.stop();
  await restic?.remove();
});
beforeEach(() => {
  proxy.seen.length = 0;
  proxy.fault = () => undefined;
});

const readAll = () => Promise.allSettled([...file.blobsIn(0, file.size)].map(({ id }) => repository.readBlob(id)));

async function readWhole(): Promise<boolean> {
  const pieces = (await readAll()).map((each) => (each.status === "fulfilled" ? each.value : Buffer.alloc(0)));
  return Buffer.concat(pieces).equals(content);
}

test("blobs that are asked for together come in a few requests, of 8 MiB at most", async () => {
  expect(file.blobCount).toBeGreaterThan(4);
  expect(await readWhole()).toBe(true);
  // How restic cuts a file differs from repository to repository: into 512 KiB to 8 MiB, 1.5 MiB on average.
  expect(proxy.seen.length).toBeLessThan(0.75 * file.blobCount);
  for (const { range } of proxy.seen) {
    const [from = 0, to = 0] = (range ?? "").replace("bytes=", "").split("-").map(Number);
    expect(to - from).toBeLessThan(8 * 1024 * 1024);
  }
});

test("those that are asked for one after the other come one by one", async () => {
  for (const { id } of file.blobsIn(0, file.size)) await repository.readBlob(id);
  expect(proxy.seen).toHaveLength(file.blobCount);
});

test("a byte that was changed on its way is read again; the others do not wait for it", async () => {
  proxy.fault = (_request, number) => (number === 0 ? { kind: "alter" } : undefined);
  expect(await readWhole()).toBe(true);
});

test("a pack that was cut off fails the blobs that lie behind the cut, and no others", async () => {
  const packs = await restic.files("data");
  const sizes = await Promise.all(packs.map(async (path) => ({ path, size: (await stat(path)).size })));
  const largest = sizes.reduce((a, b) => (b.size > a.size ? b : a));
  const copy = `${largest.path}.whole`;
  await rename(largest.path, copy);
  await copyFile(copy, largest.path);
  await chmod(largest.path, 0o600);
  await truncate(largest.path, Math.floor(largest.size / 2));
  const results = await readAll();
  await rename(copy, largest.path);
  const failed = results.filter(({ status }) => status === "rejected");
  expect(failed.length).toBeGreaterThan(0);
  expect(failed.length).toBeLessThan(results.length);
  for (const each of failed) {
    const message = expect.stringContaining(basename(largest.path));
    expect(each).toMatchObject({ reason: { code: "REPOSITORY_OBJECT_DAMAGED", message } });
  }
  expect(await readWhole()).toBe(true);
});
