import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "@jest/globals";
import fc from "fast-check";
import { systemClock } from "../base/clock.ts";
import type { ReadClass } from "../disk/block-device.ts";
import { BlockCache } from "../disk/cache/block-cache.ts";
import { LocalBackend } from "../repository/backends/local.ts";
import { isTransient } from "../repository/errors.ts";
import { Repository } from "../repository/repository.ts";
import { noise, ResticRepository } from "../repository/testing/restic.ts";
import { BlobTracker } from "./blob-tracker.ts";
import { CachedImage } from "./cached-image.ts";
import { AgentMetrics } from "./metrics.ts";
import { ReadScheduler } from "./read-scheduler.ts";
import { RepositoryReader } from "./repository-reader.ts";

const MIB = 1024 * 1024;
const content = Buffer.concat([noise(7 * MIB, 1), Buffer.alloc(20 * MIB), noise(3 * MIB + 512, 2)]);

let restic: ResticRepository;
let snapshot: string;
let repository: Repository;
let directory: string;
let cache: BlockCache;
let scheduler: ReadScheduler;
let image: CachedImage;
let reads: [ReadClass, boolean][];

beforeAll(async () => {
  restic = await ResticRepository.create(2);
  snapshot = await restic.backUp({ "disk.img": content });
}, 180_000);
afterAll(() => restic?.remove());

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "cached-image-"));
  repository = await Repository.open(new LocalBackend(restic.directory), restic.password);
  const tree = await repository.browse(await repository.snapshot(snapshot));
  const [file] = await repository.openFiles([await tree.file("/disk.img")]);
  if (file === undefined) throw new Error("no file");
  const tracker = new BlobTracker();
  cache = await BlockCache.open(directory, 64 * MIB, (id) => tracker.rank(id));
  const reader = new RepositoryReader(repository, systemClock);
  scheduler = new ReadScheduler({
    slots: 4,
    clock: systemClock,
    fetch: (id) => reader.read(id),
    store: (id, bytes) => cache.put(id, bytes),
    isTransient,
    observer: new AgentMetrics(),
  });
  reads = [];
  const onRead = (_offset: number, _length: number, readClass: ReadClass, missed: boolean): void =>
    void reads.push([readClass, missed]);
  image = new CachedImage({ file, cache, scheduler, tracker, onRead });
});

afterEach(async () => {
  scheduler.close(new Error("closed"));
  await cache.close();
  await repository.close();
  await rm(directory, { recursive: true, force: true });
});

test("any range is what was backed up, from the repository first and from the cache then", async () => {
  const range = fc.tuple(fc.nat(content.length), fc.nat(2 * MIB));
  await fc.assert(
    fc.asyncProperty(range, async ([offset, length]) => {
      const clipped = Math.min(length, content.length - offset);
      const read = await image.read(offset, clipped, "guest");
      expect(read.equals(content.subarray(offset, offset + clipped))).toBe(true);
    }),
    { numRuns: 60 },
  );
  expect((await image.read(0, content.length, "relocation")).equals(content)).toBe(true);
  const fetched = repository.counters.blobsFetched;
  reads = [];
  expect((await image.read(0, content.length, "relocation")).equals(content)).toBe(true);
  expect(repository.counters.blobsFetched).toBe(fetched);
  expect(reads).toEqual([["relocation", false]]);
});

test("many readers of one blob cost one fetch", async () => {
  const before = repository.counters.blobsFetched;
  const all = await Promise.all(Array.from({ length: 50 }, () => image.read(1000, 512, "guest")));
  expect(all.every((read) => read.equals(content.subarray(1000, 1512)))).toBe(true);
  expect(repository.counters.blobsFetched).toBe(before + 1);
});

test("zeros cost nothing, and are known without reading", async () => {
  const before = repository.counters.blobsFetched;
  const zero = image.extents(0, image.size).filter((extent) => extent.zero);
  const known = zero.reduce((sum, { length }) => sum + length, 0);
  expect(known).toBeGreaterThan(8 * MIB);
  for (const { offset, length } of zero) {
    expect((await image.read(offset, length, "guest")).equals(Buffer.alloc(length))).toBe(true);
  }
  expect(repository.counters.blobsFetched).toBe(before);
  const whole = image.extents(5, image.size - 10);
  expect(whole[0]?.offset).toBe(5);
  expect(whole.reduce((sum, { length }) => sum + length, 0)).toBe(image.size - 10);
});

test("a range that is not on the disk is refused", async () => {
  for (const [offset, length] of [
    [image.size, 1],
    [-1, 1],
    [0, image.size + 1],
    [0.5, 1],
  ] as const) {
    await expect(image.read(offset, length, "guest")).rejects.toMatchObject({ code: "OUT_OF_RANGE" });
  }
  expect(await image.read(image.size, 0, "guest")).toHaveLength(0);
});

test("altered data is an error that names the blob, never served", async () => {
  const own = await ResticRepository.create(2);
  try {
    const id = await own.backUp({ "disk.img": noise(2 * MIB, 9) });
    const altered = await Repository.open(new LocalBackend(own.directory), own.password);
    const tree = await altered.browse(await altered.snapshot(id));
    const [file] = await altered.openFiles([await tree.file("/disk.img")]);
    for (const pack of await own.files("data")) await writeFile(pack, Buffer.alloc(4 * MIB, 7));
    const reader = new RepositoryReader(altered, systemClock);
    const blob = file?.blob(0).id ?? "";
    const error = await reader.read(blob).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "REPOSITORY_BLOB_DAMAGED", message: expect.stringContaining(blob) });
    expect(isTransient(error)).toBe(false);
    expect(reader).toMatchObject({ reachable: true, message: expect.stringContaining(blob) });
    await altered.close();
  } finally {
    await own.remove();
  }
});
