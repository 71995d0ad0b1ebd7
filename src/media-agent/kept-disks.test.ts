import { mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import fc from "fast-check";
import type { RepositoryFile } from "../repository/repository-file.ts";
import { KeptDisks } from "./kept-disks.ts";
import type { SnapshotDisk } from "./snapshot-disk.ts";
import { blobFile, lettered } from "./testing/blob-file.ts";

const SNAPSHOT = "a".repeat(64);
let directory: string;
let kept: KeptDisks;

beforeEach(async () => {
  directory = join(await mkdtemp(join(tmpdir(), "kept-disks-")), "disks");
  kept = new KeptDisks(directory);
});
afterEach(() => rm(join(directory, ".."), { recursive: true }));

const content = fc.record({ content: fc.constantFrom("a", "b", "c", "zero"), length: fc.nat(16_000_000) });
const file = fc.array(content, { maxLength: 20 }).map(blobFile);
const disk = fc.record({
  format: fc.constantFrom("raw", "qcow2", "vmdk", "vhd", "vhdx"),
  size: fc.nat(2 ** 40),
  files: fc.tuple(file, file).chain(([own, other]) => fc.constantFrom([own] as const, [own, other] as const)),
});

function plain(disks: readonly SnapshotDisk[] | undefined): unknown {
  const blobs = (each: RepositoryFile): unknown =>
    Array.from({ length: each.blobCount }, (_, index) => each.blob(index));
  return disks?.map(({ format, size, files }) => [
    format,
    size,
    files.map((each) => [each.path, each.size, blobs(each)]),
  ]);
}

test("gives back what was kept, for its snapshot only", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(disk, { maxLength: 3 }), async (disks) => {
      await rm(directory, { recursive: true, force: true });
      await kept.save(SNAPSHOT, disks);
      expect(plain(await new KeptDisks(directory).load(SNAPSHOT))).toEqual(plain(disks));
      expect(await kept.load("b".repeat(64))).toBeUndefined();
    }),
    { numRuns: 30 },
  );
});

test("whatever byte is another, or wherever it was cut off: as good as none, and kept anew", async () => {
  const disks: SnapshotDisk[] = [{ format: "raw", size: 5, files: [lettered("ab0ba", 1)] }];
  await kept.save(SNAPSHOT, disks);
  const path = join(directory, SNAPSHOT);
  const genuine = await readFile(path);
  await fc.assert(
    fc.asyncProperty(fc.nat(genuine.length - 1), fc.integer({ min: 1, max: 255 }), async (at, change) => {
      const altered = Buffer.from(genuine);
      altered[at] = (altered[at] ?? 0) ^ change;
      await writeFile(path, altered);
      expect(await kept.load(SNAPSHOT)).toBeUndefined();
      await truncate(path, at);
      expect(await kept.load(SNAPSHOT)).toBeUndefined();
    }),
  );
  await kept.save(SNAPSHOT, disks);
  expect(await readFile(path)).toEqual(genuine);
});

test("a directory that cannot be written to is no reason to fail", async () => {
  await writeFile(directory, "");
  await kept.save(SNAPSHOT, []);
  expect(await kept.load(SNAPSHOT)).toBeUndefined();
});
