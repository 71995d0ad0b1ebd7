import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "@jest/globals";
import fc from "fast-check";
import { systemClock } from "../base/clock.ts";
import type { ReadClass } from "../disk/block-device.ts";
import { BlockCache } from "../disk/cache/block-cache.ts";
import { LocalBackend } from "../repository/backends/local.ts";
import { isTransient, RepositoryError } from "../repository/errors.ts";
import { Repository } from "../repository/repository.ts";
import type { FileBlob } from "../repository/repository-file.ts";
import { noise, ResticRepository } from "../repository/testing/restic.ts";
import { BlobTracker } from "./blob-tracker.ts";
import { BootRecorder } from "./boot-recorder.ts";
import { learnedBootSets } from "./boot-set/choose.ts";
import type { BlobSequence } from "./disk-blobs.ts";
import { type ReadImage, readImage } from "./format-image.ts";
import { AgentMetrics } from "./metrics.ts";
import { SCORE_FIRST, scoreAfter } from "./profile/learned-disk.ts";
import { decodeDisk } from "./profile/text.ts";
import { ReadScheduler } from "./read-scheduler.ts";
import { Readahead } from "./readahead.ts";
import { RepositoryReader } from "./repository-reader.ts";
import { openSnapshotDisk } from "./snapshot-disk.ts";
import { ImageWorkshop } from "./testing/disk-images.ts";

const MIB = 1024 * 1024;
const SIZE = 60 * MIB;

let restic: ResticRepository;
let expected: Buffer;
let snapshot: string;
let repository: Repository;
let directory: string;
let cache: BlockCache;
let scheduler: ReadScheduler;
/** The same disk as a process has it that knows nothing of it yet. */
let open: () => ReadImage;
let disk: ReadImage;
let damaged: boolean;
let reads: [number, number, ReadClass, boolean][];

beforeAll(async () => {
  const workshop = await ImageWorkshop.create();
  await workshop.blank("source", SIZE);
  await workshop.tree("noise", { a: noise(6 * MIB, 1), b: noise(7 * MIB, 2) });
  await workshop.run("dd", "if=noise/a", "of=source", "bs=1M", "seek=3", "conv=notrunc", "status=none");
  await workshop.run("dd", "if=noise/b", "of=source", "bs=1M", "seek=40", "conv=notrunc", "status=none");
  // The disk's end is written first, so that places in the file and in the disk differ.
  await workshop.run("qemu-img", "create", "-q", "-f", "qcow2", "base.qcow2", String(SIZE));
  await workshop.run(
    "qemu-io",
    "-f",
    "qcow2",
    "-c",
    "write -s noise/b 40M 7M",
    "-c",
    "write -s noise/a 3M 6M",
    "base.qcow2",
  );
  await workshop.run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "over.qcow2");
  const writes = ["write -s noise/a 20M 2M", "write -z 41M 1M", "write -P 3 4M 512"].flatMap((line) => ["-c", line]);
  await workshop.run("qemu-io", "-f", "qcow2", ...writes, "over.qcow2");
  await workshop.run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", "over.qcow2", "expected");
  expected = await readFile(workshop.path("expected"));
  restic = await ResticRepository.create(2);
  snapshot = await restic.backUp({
    "base.qcow2": await readFile(workshop.path("base.qcow2")),
    "over.qcow2": await readFile(workshop.path("over.qcow2")),
  });
  await workshop.remove();
}, 180_000);
afterAll(() => restic?.remove());

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "format-image-"));
  repository = await Repository.open(new LocalBackend(restic.directory), restic.password);
  const tree = await repository.browse(await repository.snapshot(snapshot));
  const [file] = await repository.openFiles([await tree.file("/over.qcow2")]);
  if (file === undefined) throw new Error("no file");
  const tracker = new BlobTracker();
  cache = await BlockCache.open(directory, 64 * MIB, (id) => tracker.rank(id));
  const reader = new RepositoryReader(repository, systemClock);
  scheduler = new ReadScheduler({
    slots: 4,
    clock: systemClock,
    fetch: (id) =>
      damaged ? Promise.reject(new RepositoryError("REPOSITORY_BLOB_DAMAGED", `blob ${id}`)) : reader.read(id),
    store: (id, bytes) => cache.put(id, bytes),
    isTransient,
    observer: new AgentMetrics(),
  });
  reads = [];
  damaged = false;
  const onRead = (...read: [number, number, ReadClass, boolean]): void => void reads.push(read);
  const known = await openSnapshotDisk(repository, tree, file, "qcow2");
  open = () => readImage(known, { cache, scheduler, tracker, onRead });
  disk = open();
});

afterEach(async () => {
  scheduler.close(new Error("closed"));
  await cache.close();
  await repository.close();
  await rm(directory, { recursive: true, force: true });
});

/** Waits; the test's own limit ends it. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}

function blobs(sequence: BlobSequence): FileBlob[] {
  return Array.from({ length: sequence.blobCount }, (_, index) => sequence.blob(index));
}

test("any range is what QEMU reads; reads are told by their place in the disk, and whether they had to wait", async () => {
  const { image } = disk;
  expect(image.size).toBe(SIZE);
  expect(image.extents(0, SIZE)).toEqual([{ offset: 0, length: SIZE, zero: false }]);
  const range = fc.tuple(fc.nat(SIZE), fc.oneof(fc.nat(9000), fc.nat(2 * MIB)));
  await fc.assert(
    fc.asyncProperty(range, async ([offset, length]) => {
      const clipped = Math.min(length, SIZE - offset);
      const read = await image.read(offset, clipped, "guest");
      expect(read.equals(expected.subarray(offset, offset + clipped))).toBe(true);
      expect(reads.at(-1)?.slice(0, 3)).toEqual([offset, clipped, "guest"]);
    }),
    { numRuns: 40, endOnFailure: true },
  );
  expect((await image.read(0, SIZE, "relocation")).equals(expected)).toBe(true);
  const fetched = repository.counters.blobsFetched;
  reads = [];
  expect((await image.read(0, SIZE, "guest")).equals(expected)).toBe(true);
  expect(reads).toEqual([[0, SIZE, "guest", false]]);
  expect(repository.counters.blobsFetched).toBe(fetched);
  await expect(image.read(SIZE, 1, "guest")).rejects.toMatchObject({ code: "OUT_OF_RANGE" });
});

test("many readers of an image that is not open yet open it once", async () => {
  const all = await Promise.all(Array.from({ length: 20 }, () => disk.image.read(4 * MIB, 512, "guest")));
  expect(all.every((read) => read.equals(Buffer.alloc(512, 3)))).toBe(true);
  expect(reads).toHaveLength(20);
  expect(reads[0]?.[3]).toBe(true);
});

test("zeros of the tables are known once they were looked at", async () => {
  await disk.walk(new AbortController().signal, () => undefined);
  const extents = disk.image.extents(0, SIZE);
  for (const { offset, length, zero } of extents) {
    if (zero) expect(expected.subarray(offset, offset + length).equals(Buffer.alloc(length))).toBe(true);
  }
  const known = extents.reduce((sum, { length, zero }) => sum + (zero ? length : 0), 0);
  expect(known).toBeGreaterThan(44 * MIB);
  expect(disk.image.extents(41 * MIB, MIB)).toEqual([{ offset: 41 * MIB, length: MIB, zero: true }]);
});

test("whoever stages the blobs in their order has all of the disk, in the disk's order", async () => {
  let told = 0;
  await disk.walk(new AbortController().signal, () => told++);
  expect(told).toBeGreaterThan(0);
  const order = blobs(disk.order);
  expect(order.map(({ offset }) => offset)).toEqual(order.map(({ offset }) => offset).sort((a, b) => a - b));
  expect(order.every(({ zero }) => !zero)).toBe(true);
  for (const { id } of order) await scheduler.stage(id, "lead");
  const fetched = repository.counters.blobsFetched;
  expect((await disk.image.read(0, SIZE, "relocation")).equals(expected)).toBe(true);
  expect(repository.counters.blobsFetched).toBe(fetched);
  const at = disk.order.indexAt(45 * MIB);
  expect(order[at]?.offset).toBeLessThanOrEqual(45 * MIB);
  expect(order[at + 1]?.offset ?? SIZE).toBeGreaterThan(45 * MIB);
});

test("the blobs of an extent are all that it needs, and the pieces of the disk know theirs", async () => {
  const extent = { offset: 39 * MIB, length: 3 * MIB };
  expect(blobs(disk.file).every(({ zero }) => zero)).toBe(true);
  await disk.learn([extent]);
  const needed = await disk.file.blobsIn(extent.offset, extent.length);
  for (const { id, zero } of needed) if (!zero) await scheduler.stage(id, "boot");
  const fetched = repository.counters.blobsFetched;
  const read = await disk.image.read(extent.offset, extent.length, "guest");
  expect(read.equals(expected.subarray(extent.offset, extent.offset + extent.length))).toBe(true);
  expect(repository.counters.blobsFetched).toBe(fetched);
  const ids = new Set([...needed].map(({ id }) => id));
  for (const { id, offset, length, zero } of blobs(disk.file)) {
    expect(offset + length).toBeLessThanOrEqual(SIZE);
    const isWithin = offset >= 40 * MIB && offset + length <= 41 * MIB;
    if (isWithin) expect(ids.has(id)).toBe(true);
    if (offset < 39 * MIB) expect(zero).toBe(true);
  }
  expect(disk.file.indexAt(SIZE - 1)).toBe(disk.file.blobCount - 1);
});

test("what a guest has read is known, and what follows it", async () => {
  await disk.image.read(40 * MIB, 4096, "relocation");
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(blobs(disk.file).every(({ zero }) => zero)).toBe(true);
  await disk.image.read(40 * MIB, 4096, "guest");
  for (let at = 40 * MIB; at < 47 * MIB; at += MIB / 2) {
    const isHole = at >= 41 * MIB && at < 42 * MIB;
    const known = (): boolean => disk.file.blob(disk.file.indexAt(at)).zero === isHole;
    await until(known);
  }
});

test("a boot's profile holds what was read of it, and stages that for a process that knows nothing of the disk", async () => {
  const boot = [4 * MIB, 45 * MIB, 20 * MIB].map((offset) => ({ offset, length: 128 * 1024 }));
  const recorder = new BootRecorder([{ name: "root", ...disk }]);
  for (const { offset, length } of boot) recorder.read("root", offset, length);
  recorder.read("root", 41 * MIB, 4096);
  const first = await recorder.profile(undefined);
  const learned = ({ disks: [root] }: typeof first) => decodeDisk(root ?? { extents: "" }, SIZE);
  expect(learned(first).runs).toEqual(boot.map((extent) => ({ ...extent, score: SCORE_FIRST, byPlace: false })));
  expect(learned(first).content.length).toBeGreaterThanOrEqual(boot.length);

  // A boot that reads something else, by a process that has not seen the tables of the rest.
  const again = new BootRecorder([{ name: "root", ...open() }]);
  again.read("root", 6 * MIB, 4096);
  const second = await again.profile(first);
  expect(learned(second).runs.map(({ offset, score }) => [offset / MIB, score])).toEqual([
    [6, SCORE_FIRST],
    ...boot.map(({ offset }) => [offset / MIB, scoreAfter(SCORE_FIRST, false)]),
  ]);

  const fresh = open();
  const { source, sets, unknown } = await learnedBootSets([{ name: "root", ...fresh }], second, 64 * MIB);
  expect([source, unknown]).toEqual(["Profile", []]);
  for (const { id } of sets.get("root") ?? []) await scheduler.stage(id, "boot");
  const fetched = repository.counters.blobsFetched;
  for (const { offset, length } of boot) {
    expect((await fresh.image.read(offset, length, "guest")).equals(expected.subarray(offset, offset + length))).toBe(
      true,
    );
  }
  expect(repository.counters.blobsFetched).toBe(fetched);
});

test("what follows a guest's sequence of reads is there before it comes", async () => {
  const staging: Promise<void>[] = [];
  const stage = (id: string, reason: "readahead"): Promise<void> => {
    const staged = scheduler.stage(id, reason);
    staging.push(staged);
    return staged;
  };
  const readahead = new Readahead({ file: disk.file, cache, scheduler: { stage }, windowBytes: 4 * MIB });
  const step = 64 * 1024;
  for (let at = 42 * MIB; at < 44 * MIB; at += step) {
    await disk.image.read(at, step, "guest");
    await until(() => !disk.file.blob(disk.file.indexAt(at + 2 * MIB)).zero);
    readahead.read(at, step);
  }
  expect(staging.length).toBeGreaterThan(0);
  await Promise.all(staging);
  const fetched = repository.counters.blobsFetched;
  // Of the last piece of 64 KiB only the first blob is known, and restic cuts blobs elsewhere in each repository.
  const length = MIB - step;
  const ahead = await disk.image.read(44 * MIB, length, "guest");
  expect(ahead.equals(expected.subarray(44 * MIB, 44 * MIB + length))).toBe(true);
  expect(repository.counters.blobsFetched).toBe(fetched);
});

test("an image that is damaged in the repository is told to readers, and ends no staging", async () => {
  damaged = true;
  await expect(disk.image.read(0, 512, "guest")).rejects.toMatchObject({ code: "REPOSITORY_BLOB_DAMAGED" });
  await disk.learn([{ offset: 0, length: SIZE }]);
  expect([...(await disk.file.blobsIn(0, SIZE))]).toEqual([]);
  await disk.walk(new AbortController().signal, () => undefined);
  expect(disk.order.blobCount).toBe(0);
  damaged = false;
  expect((await disk.image.read(4 * MIB, 512, "guest")).equals(Buffer.alloc(512, 3))).toBe(true);
});

test("a walk ends when it is told to", async () => {
  const ending = new AbortController();
  ending.abort();
  await disk.walk(ending.signal, () => undefined);
  expect(disk.order.blobCount).toBe(0);
  expect(disk.order.indexAt(5)).toBe(0);
});
