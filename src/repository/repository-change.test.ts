import { execFile } from "node:child_process";
import { copyFile, readdir, rename, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import type { FileName } from "./backends/backend.ts";
import { LocalBackend } from "./backends/local.ts";
import { RepositoryError } from "./errors.ts";
import { openMasterKey } from "./key-file.ts";
import { Repository } from "./repository.ts";
import { openFile, readRange } from "./testing/read-range.ts";
import { noise, ResticRepository } from "./testing/restic.ts";
import { readUnpackedJson, saveUnpackedJson } from "./unpacked.ts";

const MIB = 1024 * 1024;
const one = noise(2 * MIB, 1);
const two = noise(2 * MIB, 2);

let restic: ResticRepository;
let repository: Repository;
let backend: CountingBackend;

/** Counts how often an index file is read. */
class CountingBackend extends LocalBackend {
  indexReads = 0;

  override async readAll(file: FileName, limit: number): Promise<Buffer> {
    if (file.type === "index") this.indexReads++;
    return super.readAll(file, limit);
  }
}

beforeEach(async () => {
  restic = await ResticRepository.create(2);
}, 120_000);
afterEach(async () => {
  await repository.close();
  await restic.remove();
});

async function open(wholeIndexLimit = 1_000_000): Promise<void> {
  backend = new CountingBackend(restic.directory);
  repository = await Repository.open(backend, restic.password, { threads: 1, wholeIndexLimit });
}

describe.each([
  ["small", 1_000_000],
  ["large", 2],
])("a %s repository", (_size, wholeIndexLimit) => {
  test("files opened at the same time are all there afterwards", async () => {
    const files = Object.fromEntries([...Array(6).keys()].map((seed) => [`disk-${seed}`, noise(MIB, seed)]));
    const id = await restic.backUp(files);
    await open(wholeIndexLimit);
    const tree = await repository.browse(await repository.snapshot(id));
    const nodes = await Promise.all(Object.keys(files).map((name) => tree.file(name)));
    const opened = await Promise.all(nodes.map((node) => repository.openFiles([node])));
    for (const [index, [file]] of opened.entries()) {
      if (file === undefined) throw new Error("not opened");
      expect((await readRange(repository, file, 0, file.size)).equals(noise(MIB, index))).toBe(true);
    }
    expect(repository.counters).toMatchObject({ failures: 0, blobsFetched: expect.any(Number) });
    expect(repository.counters.bytesFetched).toBeGreaterThan(6 * MIB);
  }, 120_000);

  test("blobs that a prune moves are found again when the index is read anew", async () => {
    const first = await restic.backUp({ "one.img": one, "two.img": two });
    const second = await restic.backUp({ "two.img": two });
    await open(wholeIndexLimit);
    const snapshot = await repository.snapshot(second);
    const staleTree = await repository.browse(snapshot);
    const file = await openFile(repository, second, "/two.img");

    await restic.restic(["forget", "--prune", "--max-unused", "0", first]);
    await expect(readRange(repository, file, 0, file.size)).rejects.toMatchObject({ code: "REPOSITORY_PACK_MISSING" });
    expect(await staleTree.list("/")).toMatchObject([{ name: "two.img" }]);
    await repository.refreshIndex();
    expect((await readRange(repository, file, 0, file.size)).equals(two)).toBe(true);
  }, 120_000);

  test("an index of the same files is not read again, however often a blob is missed", async () => {
    const id = await restic.backUp({ "one.img": one });
    await open(wholeIndexLimit);
    const file = await openFile(repository, id, "/one.img");
    const before = backend.indexReads;
    for (let look = 0; look < 3; look++) await repository.refreshIndex();
    expect(backend.indexReads).toBe(before);
    await restic.backUp({ "two.img": two });
    await repository.refreshIndex();
    expect(backend.indexReads).toBeGreaterThan(before);
    expect((await readRange(repository, file, 0, file.size)).equals(one)).toBe(true);
    // Not mounted: it is no longer the same, and never looks as if all were well.
    await rename(restic.directory, `${restic.directory}.away`);
    await expect(repository.refreshIndex()).rejects.toMatchObject({ code: "REPOSITORY_UNREACHABLE" });
    await rename(`${restic.directory}.away`, restic.directory);
    await repository.refreshIndex();
    expect((await readRange(repository, file, 0, file.size)).equals(one)).toBe(true);
  }, 120_000);

  test("a backup made after opening can be opened", async () => {
    await restic.backUp({ "one.img": one });
    await open(wholeIndexLimit);
    await repository.reloadIndex();
    const later = await restic.backUp({ "two.img": two });
    const file = await openFile(repository, later, "/two.img");
    expect((await readRange(repository, file, 0, file.size)).equals(two)).toBe(true);
  }, 120_000);
});

describe.each([1_000_000, 0])("kept for the next process, whole index up to %i blobs", (wholeIndexLimit) => {
  async function restart(): Promise<number> {
    await repository.close();
    backend = new CountingBackend(restic.directory);
    const options = { threads: 1, wholeIndexLimit, indexCache: `${restic.directory}.cache` };
    repository = await Repository.open(backend, restic.password, options);
    const file = await openFile(repository, id, "/one.img");
    expect((await readRange(repository, file, 0, file.size)).equals(one)).toBe(true);
    return backend.indexReads;
  }
  let id: string;
  beforeEach(async () => {
    id = await restic.backUp({ "one.img": one, "two.img": two });
    await open(wholeIndexLimit);
  }, 120_000);

  test("an index is read once, and again when it has changed", async () => {
    expect(await restart()).toBeGreaterThan(0);
    expect(await restart()).toBe(0);
    await restic.backUp({ "more.img": noise(MIB, 77) });
    expect(await restart()).toBeGreaterThan(0);
    expect(await restart()).toBe(0);
  }, 180_000);

  test("what is damaged is read from the repository, and kept again", async () => {
    await restart();
    await repository.close();
    const cache = `${restic.directory}.cache`;
    for (const name of await readdir(cache)) await writeFile(join(cache, name), "damaged");
    expect(await restart()).toBeGreaterThan(0);
    expect(await restart()).toBe(0);
  }, 180_000);
});

test("the index of a small repository is read once for everything", async () => {
  const id = await restic.backUp({ "a/one.img": one, "a/two.img": two });
  await open();
  for (const path of ["/a/one.img", "/a/two.img"]) await openFile(repository, id, path);
  expect(backend.indexReads).toBe((await restic.files("index")).length);
}, 120_000);

test("a repository that cannot be opened lets go of what it is read through", async () => {
  await restic.backUp({ "one.img": one });
  await open();
  let closed = 0;
  class ClosedBackend extends LocalBackend {
    override async close(): Promise<void> {
      closed++;
      await super.close();
    }
  }
  await expect(Repository.open(new ClosedBackend(restic.directory), "wrong")).rejects.toMatchObject({
    code: "REPOSITORY_WRONG_PASSWORD",
  });
  expect(closed).toBe(1);
  await expect(Repository.open(new ClosedBackend("/nowhere"), "x")).rejects.toThrow();
  expect(closed).toBe(2);
}, 120_000);

test("many who ask for a fresh index share the reading", async () => {
  await restic.backUp({ "one.img": one });
  await open();
  await Promise.all(Array.from({ length: 50 }, () => repository.reloadIndex()));
  expect(backend.indexReads).toBe((await restic.files("index")).length);
}, 120_000);

test("a reading of the index that failed does not spoil the next", async () => {
  const id = await restic.backUp({ "one.img": one });
  await open();
  const file = await openFile(repository, id, "/one.img");
  const away = `${restic.directory}.away`;
  await rename(restic.directory, away);
  const reads = [repository.reloadIndex(), repository.reloadIndex()];
  for (const read of await Promise.allSettled(reads)) {
    expect(read).toMatchObject({ status: "rejected", reason: { code: "REPOSITORY_UNREACHABLE" } });
  }
  await rename(away, restic.directory);
  await repository.reloadIndex();
  expect((await readRange(repository, file, 0, file.size)).equals(one)).toBe(true);
}, 120_000);

test("of a blob in two packs, the good copy is read", async () => {
  const id = await restic.backUp({ "one.img": one });
  const plain = new LocalBackend(restic.directory);
  const key = await openMasterKey(plain, restic.password);
  const [index = ""] = await plain.list("index");
  const listed = (await readUnpackedJson(plain, key, { type: "index", name: index })) as { packs: { id: string }[] };
  // Every pack once more under another name, then every original moved away.
  for (const pack of await restic.files("data")) {
    const twin = basename(pack).replace(/.{4}$/, basename(pack).endsWith("0000") ? "1111" : "0000");
    await copyFile(pack, join(dirname(pack), twin));
    await rename(pack, `${pack}.away`);
    const packs = listed.packs.filter((each) => each.id === basename(pack)).map((each) => ({ ...each, id: twin }));
    await saveUnpackedJson(plain, key, 2, "index", { packs });
  }
  await open();
  const file = await openFile(repository, id, "/one.img");
  expect((await readRange(repository, file, 0, file.size)).equals(one)).toBe(true);
}, 120_000);

test.each(["REPOSITORY_UNREACHABLE", "REPOSITORY_FORBIDDEN"] as const)(
  "a copy that is %s now counts more than one that is missing: the read may still succeed",
  async (code) => {
    const id = await restic.backUp({ "one.img": one });
    const plain = new LocalBackend(restic.directory);
    const key = await openMasterKey(plain, restic.password);
    const [index = ""] = await plain.list("index");
    const listed = (await readUnpackedJson(plain, key, { type: "index", name: index })) as { packs: { id: string }[] };
    // Every pack is listed once more under a name that is nowhere.
    const packs = listed.packs.map((each) => ({ ...each, id: each.id.replace(/.{4}$/, "0000") }));
    await saveUnpackedJson(plain, key, 2, "index", { packs });
    const genuine = new Set((await restic.files("data")).map((path) => basename(path)));
    let isAway = false;
    class AwayBackend extends LocalBackend {
      override async readAll(file: FileName, limit: number): Promise<Buffer> {
        const content = await super.readAll(file, limit);
        // Read last, the good copies are tried first.
        if (file.name === index) await delay(300);
        return content;
      }

      override async readRange(file: FileName, offset: number, length: number): Promise<Buffer> {
        if (isAway && genuine.has(file.name)) throw new RepositoryError(code, "away");
        return super.readRange(file, offset, length);
      }
    }
    repository = await Repository.open(new AwayBackend(restic.directory), restic.password, { threads: 1 });
    const file = await openFile(repository, id, "/one.img");
    isAway = true;
    await expect(readRange(repository, file, 0, file.size)).rejects.toMatchObject({ code });
    isAway = false;
    expect((await readRange(repository, file, 0, file.size)).equals(one)).toBe(true);
  },
  120_000,
);

test("a process that waits for blobs stays until it has them, and not a moment longer", async () => {
  const id = await restic.backUp({ "one.img": one });
  await open();
  const script = new URL("./testing/read-file-main.ts", import.meta.url).pathname;
  const args = ["--disable-warning=ExperimentalWarning", script, restic.directory, restic.password, id, "/one.img"];
  const options = { env: {}, encoding: "buffer", maxBuffer: 16 * MIB, timeout: 20_000 } as const;
  const { stdout } = await promisify(execFile)(process.execPath, args, options);
  expect(stdout.equals(one)).toBe(true);
}, 120_000);
