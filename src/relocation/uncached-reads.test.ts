import { randomBytes } from "node:crypto";
import { closeSync, constants, openSync, readFileSync, readSync, writeFileSync } from "node:fs";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { pageAligned } from "./buffer-pool.ts";
import { ImageHash } from "./image-hash.ts";
import { UncachedReads } from "./uncached-reads.ts";

const MIB = 1024 * 1024;
const content = randomBytes(3 * MIB + 700);
let directory: string;
let path: string;

beforeEach(async () => {
  // Beside the sources: the directory for temporary files may be in memory.
  const beside = join(import.meta.dirname, "../../.cache");
  await mkdir(beside, { recursive: true });
  directory = await mkdtemp(join(beside, "uncached-"));
  path = join(directory, "disk.img");
  writeFileSync(path, content, { flush: true });
});

afterEach(() => rm(directory, { recursive: true, force: true }));

test("gives any range as the file has it, and tells where it ends too soon", () => {
  for (const [from, to] of [
    [0, content.length],
    [4096, 8192],
    [511, MIB + 1],
    [2 * MIB, content.length],
    [700, 700],
  ] as const)
    expect(collected(from, to).equals(content.subarray(from, to))).toBe(true);
  expect(() => collected(0, content.length + 1)).toThrow("ends at");
});

function collected(from: number, to: number): Buffer {
  const reads = new UncachedReads(path);
  const pieces: Buffer[] = [];
  try {
    for (const piece of reads.pieces(from, to)) pieces.push(Buffer.from(piece));
  } finally {
    reads.close();
  }
  return Buffer.concat(pieces);
}

/** Bytes that this process has had from devices. */
function fromDevices(): number {
  return Number(/^read_bytes: (\d+)$/m.exec(readFileSync("/proc/self/io", "latin1"))?.[1]);
}

test("a target is hashed as its device has it, though the page cache has all of it", async () => {
  readFileSync(path);
  // Some file systems take the flag and use the page cache all the same: there, nobody can do better.
  const direct = openSync(path, constants.O_RDONLY | constants.O_DIRECT);
  const before = fromDevices();
  readSync(direct, pageAligned(MIB), 0, MIB, 0);
  closeSync(direct);
  const bytes = (fromDevices() - before) * 3;
  const hash = new ImageHash();
  try {
    await hash.file(path, 0, 3 * MIB);
    await hash.digest();
  } finally {
    await hash.close();
  }
  expect(fromDevices() - before).toBeGreaterThanOrEqual(bytes + bytes / 3);
});
