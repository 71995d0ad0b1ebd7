import { randomBytes } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import fc from "fast-check";
import { BlobTable, type TableParts } from "./blob-table.ts";
import { IdTable } from "./id-table.ts";
import { IndexCache, type IndexKey } from "./index-cache.ts";

const key: IndexKey = { repository: "r", files: ["b", "a"], selection: "all", most: 1000 };
let directory: string;
let cache: IndexCache;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "index-cache-"));
  cache = new IndexCache(directory);
});
afterEach(() => rm(directory, { recursive: true }));

/** Two places of every third blob. */
function entries(packs: number, blobs: number): TableParts {
  const more = Math.ceil(blobs / 3);
  return {
    packs: new Uint8Array(randomBytes(packs * 32)),
    ids: new Uint8Array(randomBytes(blobs * 32)),
    places: Uint32Array.from({ length: blobs * 4 }, (_, index) => (index % 4 === 0 ? index % packs : index * 7)),
    last: Uint32Array.from({ length: blobs }, (_, index) => (index % 3 === 0 ? index / 3 + 1 : 0)),
    rows: Uint32Array.from({ length: more * 5 }, (_, index) => (index % 5 === 4 ? 0 : index)),
  };
}

function bytesOfPart({ buffer, byteOffset, byteLength }: Uint8Array | Uint32Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}

async function onlyFile(): Promise<string> {
  const names = await readdir(directory);
  expect(names).toHaveLength(1);
  return join(directory, names[0] ?? "");
}

test.each([
  [0, 0],
  [1, 1],
  [7, 1000],
  [500, 200_000],
])("gives back what was saved: %i packs, %i blobs", async (packs, blobs) => {
  const saved = entries(packs, blobs);
  await cache.save(key, saved);
  const found = await new IndexCache(directory).load({ ...key, files: ["a", "b"] });
  if (found === undefined || found === "tooMany") throw new Error("not found");
  for (const part of ["packs", "ids", "places", "last", "rows"] as const) {
    expect(Buffer.compare(bytesOfPart(found[part]), bytesOfPart(saved[part]))).toBe(0);
  }
  const table = await BlobTable.from(found);
  expect(table.size).toBe(blobs + Math.ceil(blobs / 3));
});

test("that an index is too large is kept as well", async () => {
  await cache.save(key, "tooMany");
  expect(await cache.load(key)).toBe("tooMany");
});

test("another index, repository, selection or limit is something else", async () => {
  await cache.save(key, entries(1, 1));
  const one = await IdTable.of([randomBytes(32)]);
  const others: Partial<IndexKey>[] = [
    { files: ["a", "c"] },
    { files: ["a"] },
    { repository: "s" },
    { selection: "trees" },
    { selection: one },
    { most: 999 },
  ];
  for (const other of others) expect(await cache.load({ ...key, ...other })).toBeUndefined();
  await cache.save({ ...key, selection: one }, entries(1, 2));
  expect(await cache.load({ ...key, selection: await IdTable.of([randomBytes(32)]) })).toBeUndefined();
  expect(await cache.load({ ...key, selection: one })).toMatchObject({ packs: expect.any(Uint8Array) });
});

test("the files of an index that has changed go, those of another repository stay", async () => {
  await cache.save(key, entries(1, 1));
  await cache.save({ ...key, selection: "trees" }, entries(1, 1));
  await cache.save({ ...key, repository: "s" }, entries(1, 1));
  await cache.save({ ...key, files: ["c"] }, entries(1, 1));
  expect(await readdir(directory)).toHaveLength(2);
  expect(await cache.load(key)).toBeUndefined();
  expect(await cache.load({ ...key, repository: "s" })).toBeDefined();
});

test("whatever byte is another, or wherever it was cut off: as good as none", async () => {
  await cache.save(key, entries(3, 20));
  const path = await onlyFile();
  const genuine = await readFile(path);
  await fc.assert(
    fc.asyncProperty(fc.nat(genuine.length - 1), fc.integer({ min: 1, max: 255 }), async (at, change) => {
      const altered = Buffer.from(genuine);
      altered[at] = (altered[at] ?? 0) ^ change;
      await writeFile(path, altered);
      expect(await cache.load(key)).toBeUndefined();
      await truncate(path, at);
      expect(await cache.load(key)).toBeUndefined();
    }),
  );
  await writeFile(path, Buffer.concat([genuine, Buffer.alloc(1)]));
  expect(await cache.load(key)).toBeUndefined();
  await writeFile(path, genuine);
  expect(await cache.load(key)).toBeDefined();
});

test("a directory that cannot be written to is no reason to fail", async () => {
  const file = join(directory, "file");
  await writeFile(file, "");
  const none = new IndexCache(join(file, "cache"));
  await none.save(key, entries(1, 1));
  expect(await none.load(key)).toBeUndefined();
});

test("many saves at once leave a whole file", async () => {
  const saved = entries(2, 50_000);
  await Promise.all(Array.from({ length: 5 }, () => cache.save(key, saved)));
  expect(await cache.load(key)).toMatchObject({ packs: saved.packs });
  await onlyFile();
});
