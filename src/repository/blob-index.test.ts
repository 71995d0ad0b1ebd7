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
import { IdSet } from "./id-set.ts";
import { writeBigIndex } from "./testing/big-index.ts";
import { writeCheapKey } from "./testing/keys.ts";
import { saveUnpackedJson } from "./unpacked.ts";

const key: CryptoKey = { encryption: randomBytes(32), macK: randomBytes(16), macR: randomBytes(16) };

let directory: string;
let decoder: Decoder;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "blob-index-"));
  await writeFile(join(directory, "config"), "");
  decoder = new Decoder(key, 1);
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
    expect(await known((await IdSet.of([bytes("1"), bytes("5"), bytes("6")])).shared)).toBe("1");
  });

  test("every copy of a blob is known", async () => {
    const table = await loadIndex(new LocalBackend(directory), decoder, "all");
    const places = table?.locations(bytes("1")).map(({ pack: name, offset }) => `${name[0]} ${offset}`);
    expect(new Set(places)).toEqual(new Set(["a 0", "c 160"]));
    expect(table?.locations(bytes("5"))).toEqual([{ pack: id("c"), offset: 100, length: 60, uncompressedLength: 400 }]);
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

describe("a million blobs", () => {
  const count = 1_000_000;
  let large: string;

  beforeAll(async () => {
    large = await mkdtemp(join(tmpdir(), "large-index-"));
    await writeFile(join(large, "config"), "");
    const backend = new LocalBackend(large);
    await writeCheapKey(backend, key, "password");
    await writeBigIndex(backend, key, 2, count);
  }, 60_000);
  afterAll(() => rm(large, { recursive: true }));

  /** In a process of its own: its memory is nobody else's. */
  async function load(kept: string): Promise<{ blobs: number; peakMiB: number; longestTurn: number }> {
    const script = new URL("./testing/index-memory-main.ts", import.meta.url).pathname;
    const args = ["--disable-warning=ExperimentalWarning", script, large, "password", kept, String(count)];
    const { stdout } = await promisify(execFile)(process.execPath, args, { env: {} });
    return JSON.parse(stdout);
  }

  // A bare process with its two threads takes 150 MiB.
  test("few of which are needed: what is read is let go at once", async () => {
    const { blobs, peakMiB, longestTurn } = await load("20000");
    expect(blobs).toBe(20_000);
    expect(peakMiB).toBeLessThan(350);
    expect(longestTurn).toBeLessThan(100);
  }, 60_000);

  test("all of which are kept: within 256 MiB", async () => {
    const { blobs, peakMiB, longestTurn } = await load("all");
    expect(blobs).toBe(count);
    expect(peakMiB).toBeLessThan(150 + 256);
    expect(longestTurn).toBeLessThan(400);
  }, 60_000);
});
