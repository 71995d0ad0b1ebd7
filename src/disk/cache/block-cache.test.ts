import { execFile } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { link, mkdir, mkdtemp, open, readdir, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import fc from "fast-check";
import { BlockCache } from "./block-cache.ts";
import { useOrderBytes } from "./use-order.ts";

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "block-cache-"));
});

afterEach(() => rm(directory, { recursive: true, force: true }));

function blob(seed: number, length: number): { id: string; content: Buffer } {
  const content = Buffer.alloc(length, createHash("sha256").update(String(seed)).digest());
  return { id: createHash("sha256").update(`${seed} ${length}`).digest("hex"), content };
}

async function bytesOnDisk(): Promise<number> {
  let sum = 0;
  for (const name of await readdir(directory)) sum += (await stat(join(directory, name))).size;
  return sum;
}

test("gives back any range, also after it was opened anew", async () => {
  let cache = await BlockCache.open(directory, 64e6, () => 0);
  const lengths = [1, 511, 4095, 4096, 4097, 8192, 100_003, 1_000_000];
  const blobs = lengths.map((length, seed) => blob(seed, length));
  for (const { id, content } of blobs) await cache.put(id, content);
  const check = (): Promise<void> =>
    fc.assert(
      fc.asyncProperty(fc.constantFrom(...blobs), fc.nat(), fc.nat(), async ({ id, content }, a, b) => {
        const offset = a % content.length;
        const length = b % (content.length - offset + 1);
        expect((await cache.read(id, offset, length))?.equals(content.subarray(offset, offset + length))).toBe(true);
      }),
    );
  await check();
  await cache.close();
  cache = await BlockCache.open(directory, 64e6, () => 0);
  expect(cache.size).toBe(blobs.length);
  await check();
  expect(await cache.read("f".repeat(64), 0, 1)).toBeUndefined();
  await cache.close();
});

test("never takes more than its bound, and lets go by rank, then by use", async () => {
  const limit = 40 * 4096;
  const keep = new Set<string>();
  const cache = await BlockCache.open(directory, limit, (id) => (keep.has(id) ? 1 : 0));
  const blobs = Array.from({ length: 60 }, (_, seed) => blob(seed, 8000));
  for (const { id } of blobs.slice(0, 5)) keep.add(id);
  for (const { id, content } of blobs) {
    await cache.put(id, content);
    await cache.read(blobs[10]?.id ?? "", 0, 10);
    expect(cache.bytes).toBeLessThanOrEqual(limit);
    expect(await bytesOnDisk()).toBeLessThanOrEqual(limit);
  }
  for (const id of keep) expect(cache.has(id)).toBe(true);
  expect(cache.has(blobs[10]?.id ?? "")).toBe(true);
  expect(cache.has(blobs[6]?.id ?? "")).toBe(false);
  await cache.put("a".repeat(64), Buffer.alloc(limit)); // larger than all of it
  expect(cache.has("a".repeat(64))).toBe(false);
  await cache.close();
});

test("a damaged or cut-off entry is a miss, never wrong bytes", async () => {
  const cache = await BlockCache.open(directory, 1e6, () => 0);
  const { id, content } = blob(1, 20_000);
  for (const damage of [(file: Buffer) => file.fill(0xee, 9000, 9001), (file: Buffer) => file.subarray(0, 12_000)]) {
    await cache.put(id, content);
    const path = join(directory, id);
    await writeFile(path, damage(await readFile(path)));
    expect(await cache.read(id, 8192, 4096)).toBeUndefined();
    expect(cache.has(id)).toBe(false);
  }
  expect(cache.corrupted).toBe(2);
  await cache.put(id, content);
  expect((await cache.read(id, 8192, 4096))?.equals(content.subarray(8192, 12_288))).toBe(true);
  await cache.close();
});

test.each([0, 1, 4099, 12_000])("an entry of which the power left %i bytes is fetched again, once", async (left) => {
  const { id, content } = blob(1, 20_000);
  let cache = await BlockCache.open(directory, 1e6, () => 0);
  await cache.put(id, content);
  await cache.close();
  await truncate(join(directory, id), left);
  cache = await BlockCache.open(directory, 1e6, () => 0);
  expect(await cache.read(id, 16_384, 3000)).toBeUndefined();
  expect(cache.has(id)).toBe(false);
  await cache.put(id, content);
  expect((await cache.read(id, 16_384, 3000))?.equals(content.subarray(16_384, 19_384))).toBe(true);
  await cache.close();
  expect(await bytesOnDisk()).toBeLessThanOrEqual(cache.bytes);
});

test("nothing is said to be here whose file is empty", async () => {
  const { id, content } = blob(1, 20_000);
  let cache = await BlockCache.open(directory, 1e6, () => 0);
  await cache.put(id, content);
  await cache.close();
  await truncate(join(directory, id), 0);
  cache = await BlockCache.open(directory, 1e6, () => 0);
  expect(cache.has(id)).toBe(false);
  await cache.close();
});

test("a file system that takes only a part of a blob is one that has no room for it", async () => {
  const cache = await BlockCache.open(directory, 1e6, () => 0);
  const any = await open(join(directory, "any.part"), "w");
  const handles = Object.getPrototypeOf(any) as { writev(buffers: Buffer[]): Promise<{ bytesWritten: number }> };
  await any.close();
  const { id, content } = blob(1, 20_000);
  const whole = handles.writev;
  handles.writev = function (buffers) {
    return whole.call(this, [(buffers[0] as Buffer).subarray(0, 8192)]);
  };
  try {
    await cache.put(id, content);
  } finally {
    handles.writev = whole;
  }
  expect(cache.has(id)).toBe(false);
  await cache.put(id, content);
  expect((await cache.read(id, 0, 20_000))?.equals(content)).toBe(true);
  await cache.close();
});

test("many at once: puts of one blob, reads while it is evicted", async () => {
  const cache = await BlockCache.open(directory, 30 * 4096, () => 0);
  const blobs = Array.from({ length: 40 }, (_, seed) => blob(seed, 5000));
  await Promise.all(
    Array.from({ length: 800 }, async (_, index) => {
      const { id, content } = blobs[(index * 7) % blobs.length] as (typeof blobs)[0];
      if (index % 2 === 0) await cache.put(id, content);
      const read = await cache.read(id, 100, 4500);
      if (read !== undefined) expect(read.equals(content.subarray(100, 4600))).toBe(true);
    }),
  );
  expect(cache.bytes).toBeLessThanOrEqual(30 * 4096);
  expect(await bytesOnDisk()).toBeLessThanOrEqual(cache.bytes);
  await cache.close();
});

test("the bound holds at every moment, whatever is put at once", async () => {
  const limit = 60 * 4096;
  const cache = await BlockCache.open(directory, limit, (id) => id.charCodeAt(0) % 3);
  const blobs = Array.from({ length: 300 }, (_, seed) => blob(seed, 1000 + ((seed * 7919) % 40_000)));
  const look = async (): Promise<void> => {
    // What goes away while it is added up counts nothing.
    const sizes = await Promise.all(
      (await readdir(directory)).map((name) =>
        stat(join(directory, name)).then(
          ({ size }) => size,
          () => 0,
        ),
      ),
    );
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThanOrEqual(limit);
    expect(cache.bytes).toBeLessThanOrEqual(limit);
  };
  for (let first = 0; first < blobs.length; first += 60) {
    let isDone = false;
    const puts = Promise.all(blobs.slice(first, first + 60).map(({ id, content }) => cache.put(id, content)));
    const done = puts.finally(() => {
      isDone = true;
    });
    do await look();
    while (!isDone);
    await done;
  }
  expect(cache.size).toBeGreaterThan(2);
  for (const { id, content } of blobs) {
    const read = await cache.read(id, 0, content.length);
    if (read !== undefined) expect(read.equals(content)).toBe(true);
  }
  await cache.close();
  expect(await bytesOnDisk()).toBeLessThanOrEqual(limit);
});

test("after a restart, what was used longest ago still goes first", async () => {
  const limit = 42 * 4096;
  let cache = await BlockCache.open(directory, limit, () => 0);
  const blobs = Array.from({ length: 10 }, (_, seed) => blob(seed, 12_000));
  for (const { id, content } of blobs) await cache.put(id, content);
  const order = [3, 0, 7, 1, 9, 5, 2, 8, 6, 4];
  for (const index of order) await cache.read(blobs[index]?.id ?? "", 0, 1);
  await cache.close();
  cache = await BlockCache.open(directory, limit, () => 0);
  expect(cache.size).toBe(10);
  for (let seed = 10; seed < 16; seed++) {
    const { id, content } = blob(seed, 12_000);
    await cache.put(id, content);
  }
  const left = [...blobs.keys()].filter((index) => cache.has(blobs[index]?.id ?? ""));
  expect(left.length).toBeGreaterThan(2);
  expect(new Set(left)).toEqual(new Set(order.slice(order.length - left.length)));
  await cache.close();
});

test("many long reads at once give their bytes, or a miss where the entry is damaged or goes meanwhile", async () => {
  const cache = await BlockCache.open(directory, 20e6, () => 0);
  const content = randomBytes(3_000_000);
  const id = "d".repeat(64);
  const reads = (): Promise<(boolean | undefined)[]> =>
    Promise.all(
      Array.from({ length: 24 }, async (_, index) => {
        const [offset, length] = [index * 4000 + 17, 100_000 + index * 50_000];
        const into = Buffer.alloc(length);
        const read = await cache.read(id, offset, length, into);
        return read?.equals(content.subarray(offset, offset + length));
      }),
    );
  await cache.put(id, content);
  expect(await reads()).toEqual(Array(24).fill(true));
  // A byte that every one of them reads.
  const file = await open(join(directory, id), "r+");
  await file.write(Buffer.from([(content[100_016] ?? 0) ^ 1]), 0, 1, 100_016);
  await file.close();
  expect(await reads()).toEqual(Array(24).fill(undefined));
  await cache.put(id, content);
  const underWay = reads();
  const others = Array.from({ length: 6 }, (_, index) => cache.put(String(index).repeat(64), randomBytes(3_400_000)));
  for (const result of await underWay) expect(result).not.toBe(false);
  await Promise.all(others);
  await cache.close();
});

test("a process that has no descriptor left loses no entry by it", async () => {
  const { id, content } = blob(1, 20_000);
  let cache = await BlockCache.open(directory, 1e6, () => 0);
  await cache.put(id, content);
  await cache.close();
  const module = new URL("./block-cache.ts", import.meta.url).href;
  const script = `
    import { closeSync, openSync } from "node:fs";
    const { BlockCache } = await import(${JSON.stringify(module)});
    const cache = await BlockCache.open(${JSON.stringify(directory)}, 1e6, () => 0);
    const taken = [];
    try { for (;;) taken.push(openSync("/dev/null")); } catch {}
    const told = async () => [(await cache.read("${id}", 0, 20000))?.length, await cache.makeDurable("${id}"), cache.corrupted];
    const without = await told();
    setTimeout(() => { for (const one of taken) closeSync(one); }, 10);
    const waited = await told();
    process.stdout.write(JSON.stringify([without, waited]));`;
  const node = [process.execPath, "--input-type=module", "-e", script];
  const { stdout } = await promisify(execFile)("sh", ["-c", 'ulimit -n 64; exec "$@"', "sh", ...node], {
    env: { ...process.env, NODE_OPTIONS: "" },
  });
  expect(JSON.parse(stdout)).toEqual([
    [null, false, 0],
    [20_000, true, 0],
  ]);
  cache = await BlockCache.open(directory, 1e6, () => 0);
  expect((await cache.read(id, 0, 20_000))?.equals(content)).toBe(true);
  await cache.close();
});

test("a damaged entry that cannot be removed is a miss all the same", async () => {
  const cache = await BlockCache.open(directory, 1e6, () => 0);
  const { id, content } = blob(1, 20_000);
  await cache.put(id, content);
  await rm(join(directory, id));
  // Nor can a directory.
  await mkdir(join(directory, id));
  expect(await cache.read(id, 0, 1)).toBeUndefined();
  expect(cache.has(id)).toBe(false);
  await cache.close();
});

test("a blob that is put in again while it is being let go of stays: its file is not removed with the old one", async () => {
  const [first, second, third] = [blob(1, 24_000), blob(2, 8000), blob(3, 20_000)];
  const put = ({ id, content }: typeof first): Promise<void> => cache.put(id, content);
  // Two fit, and the first one has to go. When it is gone, all that is put then has its room.
  const cache = await BlockCache.open(directory, useOrderBytes(50_000) + 50_000, () => 0);
  await put(first);
  await put(second);
  // Whoever opens it now waits until somebody writes there.
  const [path, pipe] = [join(directory, first.id), join(directory, "pipe")];
  await promisify(execFile)("mkfifo", [pipe]);
  await rm(path);
  await link(pipe, path);
  const reading = cache.read(first.id, 0, 1);
  await cache.read(second.id, 0, 1);
  const letsGoOfFirst = put(third);
  while (cache.has(first.id)) await delay(1);
  const again = put(first);
  // Long enough for it to be there, if nothing held it up.
  await delay(100);
  await (await open(pipe, "r+")).close();
  await Promise.all([reading, letsGoOfFirst, again]);
  // Whether it found room beside the other or not: what is said to be here is.
  const isHere = cache.has(first.id);
  const found = await cache.read(first.id, 0, first.content.length);
  expect([found?.equals(first.content) ?? false, cache.has(first.id)]).toEqual([isHere, isHere]);
  expect(cache.corrupted).toBe(0);
  await cache.close();
});
