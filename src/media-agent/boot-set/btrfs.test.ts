import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import fc from "fast-check";
import { ManualClock } from "../../base/testing/manual-clock.ts";
import type { Extent } from "../../disk/block-device.ts";
import { memorySource } from "../../disk/testing/memory-source.ts";
import { noise } from "../../repository/testing/restic.ts";
import { collect, coverage, damaged, ImageWorkshop, placesOf } from "../testing/disk-images.ts";
import { BoundedDisk } from "./bounded-disk.ts";
import { btrfsBootSet } from "./btrfs.ts";

const MIB = 1024 * 1024;
const KERNEL = noise(3 * MIB, 1);
const INITRD = noise(9 * MIB + 500, 2);
/** Longer than what a leaf holds itself. */
const FSTAB = noise(5000, 3);
const LAST = noise(9000, 4);
const FILM = noise(4 * MIB, 5);
/** Enough for trees of several levels. */
const MANY = 1500;
let workshop: ImageWorkshop;

beforeAll(async () => {
  workshop = await ImageWorkshop.create();
  const many = Object.fromEntries(
    Array.from({ length: MANY }, (_, index) => [`etc/many/service-with-a-long-name-${index}.conf`, noise(600, index)]),
  );
  const files = {
    "boot/vmlinuz-6.1.0": KERNEL,
    "boot/initrd.img-6.1.0": INITRD,
    "etc/fstab": FSTAB,
    "etc/many/zzz.conf": LAST,
    "home/film.mkv": FILM,
  };
  await workshop.tree("root", { ...many, ...files });
  await workshop.tree("subvolumes/@", { ...many, ...files });
  await workshop.tree("few", files);
});
afterAll(() => workshop.remove());

async function image(name: string, tree: string, ...options: readonly string[]): Promise<Buffer> {
  const path = await workshop.blank(name, 300 * MIB);
  await workshop.run("mkfs.btrfs", "-q", "--rootdir", workshop.path(tree), ...options, path);
  return readFile(path);
}

const open = (content: Buffer) => new BoundedDisk(memorySource(content), new ManualClock());

test.each([
  ["as usual", "root", []],
  ["with small nodes and single metadata", "root", ["-n", "4096", "-m", "single"]],
  ["with large nodes", "root", ["-n", "65536"]],
  ["of mixed blocks", "root", ["-M"]],
  ["with its root in a directory named as a subvolume", "subvolumes", []],
])("%s: kernel, initrd and settings", async (name, tree, options) => {
  const content = await image(name, tree, ...options);
  const covers = coverage(await collect(btrfsBootSet(open(content))));
  for (const file of [KERNEL, INITRD, FSTAB, LAST]) {
    const places = placesOf(content, file);
    expect(places).toHaveLength(Math.ceil(file.length / 512));
    expect(places.filter((place) => !covers(place))).toEqual([]);
  }
  expect(placesOf(content, FILM).filter(covers)).toEqual([]);
  for (const offset of [64 * 1024, 64 * MIB]) {
    expect(content.toString("latin1", offset + 64, offset + 72)).toBe("_BHRfS_M");
    expect(covers({ offset, length: 4096 })).toBe(true);
  }
});

test("the roots of the trees lie where btrfs itself finds them", async () => {
  const content = await image("roots", "root");
  const covers = coverage(await collect(btrfsBootSet(open(content))));
  const path = workshop.path("roots");
  const about = await workshop.run("btrfs", "inspect-internal", "dump-super", path);
  const [, chunkRoot = 0] = /^chunk_root\s+(\d+)$/m.exec(about) ?? [];
  const trees = await workshop.run("btrfs", "inspect-internal", "dump-tree", "-r", path);
  const roots = [...trees.matchAll(/(root tree|chunk tree|fs tree)\D+(\d+) level/g)].map(([, , address]) =>
    Number(address),
  );
  expect(roots.length).toBeGreaterThanOrEqual(2);
  const nodes = new Map<number, number>();
  // Each node says its own address.
  for (let at = 0; at < content.length; at += 4096) nodes.set(Number(content.readBigUInt64LE(at + 48)), at);
  for (const address of [Number(chunkRoot), ...roots]) {
    const offset = nodes.get(address) ?? -1;
    expect(offset).toBeGreaterThan(0);
    const copies = [...Array(content.length / 4096).keys()]
      .map((page) => page * 4096)
      .filter((at) => Number(content.readBigUInt64LE(at + 48)) === address);
    expect(copies.some((at) => covers({ offset: at, length: 16_384 }))).toBe(true);
  }
});

test("trees that name the same nodes again and again end", async () => {
  const content = Buffer.alloc(2 * MIB);
  const block = 64 * 1024;
  content.write("_BHRfS_M", block + 64, "latin1");
  content.writeUInt32LE(4096, block + 148);
  content.writeUInt32LE(97, block + 160);
  content.writeBigUInt64LE(1n, block + 201);
  // One chunk: the file system's addresses are the device's.
  content.writeUInt8(228, block + 811 + 8);
  content.writeBigUInt64LE(BigInt(content.length), block + 811 + 17);
  content.writeUInt16LE(1, block + 811 + 17 + 44);
  content.writeBigUInt64LE(1n, block + 811 + 17 + 48);
  const address = (level: number): number => MIB + level * 4096;
  for (const tree of [80, 88]) content.writeBigUInt64LE(BigInt(address(7)), block + tree);
  for (let level = 7; level > 0; level--) {
    const at = address(level);
    content.writeBigUInt64LE(BigInt(at), at + 48);
    content.writeUInt32LE(120, at + 96);
    content.writeUInt8(level, at + 100);
    for (let index = 0; index < 120; index++) {
      content.writeBigUInt64LE(BigInt(address(level - 1)), at + 101 + index * 33 + 17);
    }
  }
  content.writeBigUInt64LE(BigInt(address(0)), address(0) + 48);
  await expect(collect(btrfsBootSet(open(content)))).rejects.toThrow("too often");
});

test("anything else has none", async () => {
  expect(await collect(btrfsBootSet(open(Buffer.alloc(MIB))))).toEqual([]);
  expect(await collect(btrfsBootSet(open(Buffer.alloc(100))))).toEqual([]);
});

test("a hostile file system ends within bounds", async () => {
  const whole = await image("hostile", "few", "-n", "4096", "-m", "single");
  const touched = await collect(btrfsBootSet(open(whole)));
  const nodes = touched.filter(({ length }) => length === 4096).map(({ offset }) => offset);
  const content = whole.subarray(0, 64 * MIB);
  const change = fc.record({
    node: fc.nat(),
    at: fc.oneof(fc.nat(300), fc.nat(4095)),
    value: fc.oneof(fc.nat(255), fc.constantFrom(0, 0xff, 1, 0x7f)),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 25 }), async (changes) => {
      const source = damaged(
        content,
        changes.map(({ node, at, value }) => [(nodes[node % Math.min(nodes.length, 40)] ?? 0) + at, value]),
      );
      const found: Extent[] = [];
      const gather = async (): Promise<void> => {
        for await (const extent of btrfsBootSet(new BoundedDisk(source, new ManualClock()))) {
          if (found.push(extent) > 400_000) throw new Error("endless");
        }
      };
      await gather().catch((error: Error) => expect(error.constructor.name).toBe("BudgetSpentError"));
      for (const { offset, length } of found) expect(offset >= 0 && length >= 0).toBe(true);
    }),
    { numRuns: 50 },
  );
}, 180_000);
