import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import fc from "fast-check";
import { ManualClock } from "../../base/testing/manual-clock.ts";
import type { Extent } from "../../disk/block-device.ts";
import { memorySource } from "../../disk/testing/memory-source.ts";
import { noise } from "../../repository/testing/restic.ts";
import { collect, coverage, damaged, ImageWorkshop } from "../testing/disk-images.ts";
import { BoundedDisk } from "./bounded-disk.ts";
import { extBootSet } from "./ext.ts";
import { readExtLayout } from "./ext-layout.ts";

const MIB = 1024 * 1024;
const KERNEL = "/boot/vmlinuz-6.1.0-1-amd64";
const INITRD = "/boot/initrd.img-6.1.0-1-amd64";
let workshop: ImageWorkshop;

beforeAll(async () => {
  workshop = await ImageWorkshop.create();
  const many = Object.fromEntries(
    Array.from({ length: 600 }, (_, index) => [`etc/many/file-with-a-long-name-${index}.conf`, noise(10, index)]),
  );
  await workshop.tree("root", {
    ...many,
    [KERNEL.slice(1)]: noise(3 * MIB, 1),
    [INITRD.slice(1)]: noise(9 * MIB + 5, 2),
    "boot/grub/grub.cfg": noise(5000, 3),
    "home/user/film.mkv": noise(12 * MIB, 4),
    "usr/lib/systemd/systemd": noise(90_000, 5),
    "usr/lib/systemd/system/basic.target": noise(900, 6),
    "usr/lib/x86_64-linux-gnu/libc.so.6": noise(1_900_000, 7),
    "usr/lib/x86_64-linux-gnu/libLLVM.so": noise(4_000_000, 8),
    "etc/fstab": noise(200, 9),
    "etc/systemd/system/own.service": noise(300, 10),
  });
});
afterAll(() => workshop.remove());

async function image(name: string, ...options: readonly string[]): Promise<Buffer> {
  const path = await workshop.blank(name, 96 * MIB);
  await workshop.run("mke2fs", "-q", "-F", "-d", workshop.path("root"), ...options, path);
  return readFile(path);
}

async function bootSet(content: Buffer): Promise<Extent[]> {
  return collect(extBootSet(new BoundedDisk(memorySource(content), new ManualClock())));
}

/** The blocks of a file, its map's included, as debugfs tells them. */
async function blocksOf(name: string, path: string, blockBytes: number): Promise<Extent[]> {
  const output = await workshop.run("debugfs", "-R", `blocks ${path}`, workshop.path(name));
  return output
    .trim()
    .split(/\s+/)
    .map((block) => ({ offset: Number(block) * blockBytes, length: blockBytes }));
}

test.each([
  ["ext4 of today", ["-t", "ext4", "-b", "4096"], 4096],
  ["ext4 with small blocks", ["-t", "ext4", "-b", "1024"], 1024],
  ["ext4 without 64bit", ["-t", "ext4", "-b", "4096", "-O", "^64bit,^metadata_csum"], 4096],
  ["ext3", ["-t", "ext3", "-b", "1024"], 1024],
  ["ext2 with old inodes", ["-t", "ext2", "-b", "4096", "-I", "128"], 4096],
])("%s: kernel, initrd, loader, init, libraries and settings", async (name, options, blockBytes) => {
  const covers = coverage(await bootSet(await image(name, ...options)));
  const wanted = [
    KERNEL,
    INITRD,
    "/boot/grub/grub.cfg",
    "/usr/lib/systemd/systemd",
    "/usr/lib/systemd/system/basic.target",
    "/usr/lib/x86_64-linux-gnu/libc.so.6",
    "/etc/fstab",
    "/etc/systemd/system/own.service",
    "/etc/many/file-with-a-long-name-599.conf",
    "/boot",
    "/etc",
    "/etc/many",
  ];
  for (const path of wanted) {
    const blocks = await blocksOf(name, path, blockBytes);
    expect(blocks.length).toBeGreaterThan(0);
    const missing = blocks.filter((block) => !covers(block));
    expect([path, missing]).toEqual([path, []]);
  }
  for (const path of ["/home/user/film.mkv", "/usr/lib/x86_64-linux-gnu/libLLVM.so"]) {
    const blocks = await blocksOf(name, path, blockBytes);
    expect(blocks.filter(covers).length).toBeLessThan(blocks.length / 10);
  }
  // Where the inode of the kernel lies: "Inode 13 is part of block group 0 / located at block 42, offset 0x0c00".
  const imap = await workshop.run("debugfs", "-R", `imap ${KERNEL}`, workshop.path(name));
  const block = Number(/block (\d+), offset/.exec(imap)?.[1]);
  expect(covers({ offset: block * blockBytes, length: blockBytes })).toBe(true);
});

test("a journal that will be replayed is read whole, another is not", async () => {
  const clean = await image("clean", "-t", "ext4", "-b", "4096", "-J", "size=8");
  const journal = (await blocksOf("clean", "<8>", 4096)).slice(0, (8 * MIB) / 4096);
  const of = async (content: Buffer): Promise<number> => {
    return journal.filter(coverage(await bootSet(content))).length;
  };
  expect(await of(clean)).toBeLessThan(10);
  const crashed = Buffer.from(clean);
  crashed.writeUInt32LE(crashed.readUInt32LE(1024 + 0x60) | 0x4, 1024 + 0x60);
  expect(await of(crashed)).toBe(journal.length);
});

test("a superblock that makes no sense is none", async () => {
  const content = (await image("base", "-t", "ext4", "-b", "4096")).subarray(0, 4 * MIB);
  const layout = (): ReturnType<typeof readExtLayout> =>
    readExtLayout(new BoundedDisk(memorySource(content), new ManualClock()));
  expect(await layout()).toMatchObject({ blockBytes: 4096, needsRecovery: false, journalInode: 8 });
  for (const [offset, value] of [
    [0x18, 30],
    [0x20, 0],
    [0x28, 0],
    [0x38, 1],
  ] as const) {
    const before = content.readUInt32LE(1024 + offset);
    content.writeUInt32LE(value, 1024 + offset);
    expect(await layout()).toBeUndefined();
    content.writeUInt32LE(before, 1024 + offset);
  }
});

test("a hostile file system ends within bounds", async () => {
  await workshop.tree("few", { "boot/vmlinuz": noise(2 * MIB, 1), "etc/fstab": noise(200, 2), "etc/a/b": noise(9, 3) });
  const make = async (name: string, ...options: readonly string[]): Promise<Buffer> => {
    const path = await workshop.blank(name, 24 * MIB);
    await workshop.run("mke2fs", "-q", "-F", "-d", workshop.path("few"), ...options, path);
    return readFile(path);
  };
  const images = [
    await make("hostile4", "-t", "ext4", "-b", "4096"),
    await make("hostile2", "-t", "ext2", "-b", "1024"),
  ];
  const touched = await Promise.all(images.map(bootSet));
  const change = fc.record({
    near: fc.nat(60),
    at: fc.oneof(fc.nat(300), fc.nat(4095)),
    value: fc.oneof(fc.nat(255), fc.constantFrom(0, 0xff, 1, 0x7f)),
  });
  await fc.assert(
    fc.asyncProperty(fc.nat(1), fc.array(change, { minLength: 1, maxLength: 25 }), async (which, changes) => {
      const places = touched[which] ?? [];
      const changed = changes.map(({ near, at, value }): [number, number] => {
        // The first is the superblock's block.
        const start = near < 6 ? 1024 : (places[near % places.length]?.offset ?? 0);
        return [start + at, value];
      });
      const source = damaged(images[which] ?? Buffer.alloc(0), changed);
      const found: Extent[] = [];
      const gather = async (): Promise<void> => {
        for await (const extent of extBootSet(new BoundedDisk(source, new ManualClock()))) {
          if (found.push(extent) > 500_000) throw new Error("endless");
        }
      };
      await gather().catch((error: Error) => expect(error.constructor.name).toBe("BudgetSpentError"));
      for (const { offset, length } of found) expect(offset >= 0 && length >= 0).toBe(true);
    }),
    { numRuns: 100 },
  );
}, 180_000);
