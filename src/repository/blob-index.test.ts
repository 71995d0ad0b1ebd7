import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import type { FileName } from "./backends/backend.ts";
import { LocalBackend } from "./backends/local.ts";
import { loadIndex } from "./blob-index.ts";
import type { CryptoKey } from "./crypto.ts";
import { Decoder } from "./decoder.ts";
import { IdTable } from "./id-table.ts";
import { IndexCache } from "./index-cache.ts";
import { writeBigIndex, writeBigSnapshot } from "./testing/big-index.ts";
import { writeCheapKey } from "./testing/keys.ts";
import { saveUnpackedJson } from "./unpacked.ts";

const key: CryptoKey = { encryption: randomBytes(32), macK: randomBytes(16), macR: randomBytes(16) };

let directory: string;
let decoder: Decoder;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "blob-index-"));
  await writeFile(join(directory, "config"), "");
  decoder = new Decoder(1);
  decoder.useKey(key);
});
afterEach(async () => {
  await decoder.close();
  await rm(directory, { recursive: true });
});

const id = (digit: string): string => digit.repeat(64);
const bytes = (digit: string): Buffer => Buffer.from(id(digit), "hex");
const pack = (name: string, type: "data" | "tree", ...blobs: string[]): unknown => ({
  id: id(name),
  blobs: blobs.map((blob, index) => ({ id: id(blob), type, offset: index * 100, length: 100 })),
});

describe("index files of every kind", () => {
  beforeEach(async () => {
    const backend = new LocalBackend(directory);
    const save = (value: unknown): Promise<string> => saveUnpackedJson(backend, key, 2, "index", value);
    const old = await save({ packs: [pack("a", "data", "1", "2"), pack("b", "tree", "3")] });
    // Replaces the first, lists a pack again, has a pack of both kinds, and a blob that lies in two packs.
    const mixed = {
      id: id("c"),
      blobs: [
        { id: id("4"), type: "data", offset: 0, length: 100 },
        { id: id("5"), type: "tree", offset: 100, length: 60, uncompressed_length: 400 },
        { id: id("1"), type: "data", offset: 160, length: 100 },
      ],
    };
    await save({ supersedes: [old], packs: [pack("a", "data", "1", "2"), mixed] });
  });

  test("all of it, the trees, or what is asked for", async () => {
    const backend = new LocalBackend(directory);
    const known = async (filter: Parameters<typeof loadIndex>[2]): Promise<string> => {
      const table = await loadIndex(backend, decoder, filter);
      return [..."123456"].filter((digit) => table?.has(bytes(digit))).join("");
    };
    expect(await known("all")).toBe("12345");
    expect(await known("trees")).toBe("35");
    expect(await known(await IdTable.of([bytes("1"), bytes("5"), bytes("6")]))).toBe("1");
  });

  test("every copy of a blob is known", async () => {
    const table = await loadIndex(new LocalBackend(directory), decoder, "all");
    const places = table?.locations(bytes("1")).map(({ pack: name, offset }) => `${name[0]} ${offset}`);
    expect(new Set(places)).toEqual(new Set(["a 0", "c 160"]));
    expect(table?.locations(bytes("5"))).toEqual([{ pack: id("c"), offset: 100, length: 60, uncompressedLength: 400 }]);
  });

  test("what is kept is found again only by who wants what it is about, though more is wanted before it is written", async () => {
    const backend = new LocalBackend(directory);
    const cache = new IndexCache(join(directory, "kept"));
    const kept = { cache, repository: "r" };
    const wanted = await IdTable.of([bytes("1")]);
    // What is kept beside it is written first.
    for (let most = 0; most < 200; most++) {
      void cache.save({ repository: "other", files: [], selection: "trees", most }, "tooMany");
    }
    await loadIndex(backend, decoder, wanted, { kept });
    await wanted.addAll(bytes("4"));
    await cache.settled();
    for (const table of [wanted, await IdTable.of([bytes("1"), bytes("4")])]) {
      const loaded = await loadIndex(backend, decoder, table, { kept });
      expect([loaded?.has(bytes("1")), loaded?.has(bytes("4"))]).toEqual([true, true]);
      await cache.settled();
    }
  });

  test("stops where it would be too large", async () => {
    const backend = new LocalBackend(directory);
    expect(await loadIndex(backend, decoder, "all", { most: 3 })).toBeUndefined();
    expect((await loadIndex(backend, decoder, "all", { most: 8 }))?.size).toBe(8);
  });
});

/** Rewrites an index file under another name each time one is about to be read, as a prune would; `times` at most. */
class PrunedBackend extends LocalBackend {
  times: number;

  constructor(path: string, times: number) {
    super(path);
    this.times = times;
  }

  override async readAll(file: FileName, limit: number): Promise<Buffer> {
    if (this.times-- > 0) {
      await this.remove(file);
      await saveUnpackedJson(this, key, 2, "index", { packs: [pack("a", "data", "1")] });
    }
    return super.readAll(file, limit);
  }
}

test("an index that is rewritten while it is read is read anew, but not for ever", async () => {
  await saveUnpackedJson(new LocalBackend(directory), key, 2, "index", { packs: [pack("a", "data", "1")] });
  const table = await loadIndex(new PrunedBackend(directory, 3), decoder, "all");
  expect(table?.locations(bytes("1"))).toHaveLength(1);
  await expect(loadIndex(new PrunedBackend(directory, 1000), decoder, "all")).rejects.toMatchObject({
    code: "REPOSITORY_UNREACHABLE",
    hint: expect.stringContaining("prune"),
  });
});

describe("many blobs", () => {
  const count = 200_000;
  const needed = 100_000;
  let large: string;
  let snapshot: string;

  beforeAll(async () => {
    large = await mkdtemp(join(tmpdir(), "large-index-"));
    const backend = new LocalBackend(large);
    await saveUnpackedJson(backend, key, 2, "config", { version: 2, id: id("f") });
    await writeCheapKey(backend, key, "password");
    await writeBigIndex(backend, key, 2, count);
    snapshot = await writeBigSnapshot(backend, key, count, needed);
  }, 180_000);
  afterAll(() => rm(large, { recursive: true }));

  /** In a process of its own: its memory is nobody else's. */
  async function load(wholeIndexLimit: number): Promise<{ blobs: number; usedMiB: number; longestTurn: number }> {
    const [script, ...modules] = ["./testing/open-disk-main.ts", "./repository.ts", "./backends/local.ts"].map((path) =>
      new URL(path, import.meta.url).toString(),
    );
    const args = ["--disable-warning=ExperimentalWarning", new URL(script ?? "").pathname, large, "password", snapshot];
    const options = JSON.stringify({ wholeIndexLimit });
    // As the container has it.
    const env = { MALLOC_ARENA_MAX: "2" };
    const { stdout } = await promisify(execFile)(process.execPath, [...args, ...modules, options], { env });
    return JSON.parse(stdout);
  }

  // Of the whole index a blob takes 70 bytes; of what is needed, 75. The rest is what four index files take while they are read.
  test.each([
    ["all of which are kept", 500_000],
    ["of which some are needed", 1000],
  ])("%s: no more memory than they need, and the event loop goes on", async (_what, wholeIndexLimit) => {
    const { blobs, usedMiB, longestTurn } = await load(wholeIndexLimit);
    expect(blobs).toBe(needed);
    expect(usedMiB).toBeLessThan(100);
    expect(longestTurn).toBeLessThan(40);
  });
});
