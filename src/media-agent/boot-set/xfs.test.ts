import { readFile, writeFile } from "node:fs/promises";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import fc from "fast-check";
import { ManualClock } from "../../base/testing/manual-clock.ts";
import type { Extent } from "../../disk/block-device.ts";
import { memorySource } from "../../disk/testing/memory-source.ts";
import { noise } from "../../repository/testing/restic.ts";
import { collect, coverage, damaged, ImageWorkshop } from "../testing/disk-images.ts";
import { BoundedDisk, type Volume } from "./bounded-disk.ts";
import { xfsBootSet } from "./xfs.ts";
import { readXfsDirectory } from "./xfs-directory.ts";
import { readXfsInode, xfsExtents } from "./xfs-inode.ts";
import { readXfsLayout, type XfsLayout } from "./xfs-layout.ts";

const MIB = 1024 * 1024;
const KERNEL = noise(3 * MIB, 1);
const INITRD = noise(9 * MIB + 5, 2);
const FSTAB = noise(200, 3);
const FILM = noise(4 * MIB, 4);
/** Enough for a directory of several blocks, with an index of its own. */
const MANY = 1200;
let workshop: ImageWorkshop;
let prototype: string;

beforeAll(async () => {
  workshop = await ImageWorkshop.create();
  await workshop.tree("files", { kernel: KERNEL, initrd: INITRD, fstab: FSTAB, film: FILM, small: noise(90, 5) });
  const file = (name: string, from: string): string => `${name} ---644 0 0 ${workshop.path(`files/${from}`)}\n`;
  const directory = (name: string, ...content: readonly string[]): string =>
    `${name} d--755 0 0\n${content.join("")}$\n`;
  const many = Array.from({ length: MANY }, (_, index) => file(`service-with-a-long-name-${index}.conf`, "small"));
  const some = Array.from({ length: 40 }, (_, index) => file(`unit-${index}.conf`, "small"));
  prototype = workshop.path("prototype");
  await writeFile(
    prototype,
    `nothing\n0 0\nd--755 0 0\n${directory("boot", file("vmlinuz-6.1.0", "kernel"), file("initrd.img-6.1.0", "initrd"))}${directory("etc", file("fstab", "fstab"), directory("many", ...many), directory("some", ...some))}${directory("home", file("film.mkv", "film"))}$\n`,
  );
});
afterAll(() => workshop.remove());

const FORMS: readonly (readonly [string, readonly string[]])[] = [
  ["of today", []],
  ["with small blocks", ["-b", "size=1024"]],
  ["with large inodes and directory blocks", ["-i", "size=1024", "-n", "size=16384"]],
  ["version 4", ["-m", "crc=0"]],
  ["version 4 without file types", ["-m", "crc=0,finobt=0", "-n", "ftype=0", "-i", "size=256"]],
];

async function image(name: string, options: readonly string[]): Promise<Buffer> {
  const path = await workshop.blank(name, 320 * MIB);
  await workshop.run("mkfs.xfs", "-q", "-p", prototype, ...options, path);
  return readFile(path);
}

const open = (content: Buffer) => new BoundedDisk(memorySource(content), new ManualClock());

async function layoutOf(volume: Volume): Promise<XfsLayout> {
  const layout = await readXfsLayout(volume);
  if (layout === undefined) throw new Error("no file system");
  return layout;
}

async function lookUp(volume: Volume, layout: XfsLayout, path: readonly string[]): Promise<number> {
  let number = layout.rootInode;
  for (const name of path) {
    const inode = await readXfsInode(volume, layout, number);
    if (inode === undefined) throw new Error("no inode");
    number = (await readXfsDirectory(volume, layout, inode)).entries.get(name) ?? 0;
  }
  return number;
}

test.each(FORMS)("%s: kernel, initrd, settings and the directories on the way", async (name, options) => {
  const content = await image(name, options);
  const covers = coverage(await collect(xfsBootSet(open(content))));
  for (const file of [KERNEL, INITRD, FSTAB]) {
    const offset = content.indexOf(file.subarray(0, 200));
    expect(offset).toBeGreaterThan(0);
    expect(covers({ offset, length: file.length })).toBe(true);
  }
  const film = content.indexOf(FILM.subarray(0, 4000));
  expect(covers({ offset: film + MIB, length: 4096 })).toBe(false);
  const volume = open(content);
  const layout = await layoutOf(volume);
  for (const [directory, count] of [
    ["many", MANY],
    ["some", 40],
  ] as const) {
    const inode = await readXfsInode(volume, layout, await lookUp(volume, layout, ["etc", directory]));
    expect(inode?.kind).toBe("directory");
    if (inode === undefined) return;
    expect(covers(inode.place)).toBe(true);
    const { entries, extents } = await readXfsDirectory(volume, layout, inode);
    expect(entries.size).toBe(count);
    expect(extents.filter((extent) => !covers(extent))).toEqual([]);
  }
});

test("finds the groups, the root's inodes, the inode trees and the log where xfs_db does", async () => {
  const content = await image("xfs", []);
  const ask = async (...commands: readonly string[]): Promise<string> =>
    workshop.run("xfs_db", "-r", ...commands.flatMap((command) => ["-c", command]), workshop.path("xfs"));
  const field = async (of: string, name: string): Promise<string> =>
    (await ask(of, `print ${name}`)).split("=")[1]?.trim() ?? "";
  const address = async (from: string): Promise<number> =>
    512 * Number(/\((\d+)\)/.exec(await ask("sb 0", `convert ${from} daddr`))?.[1]);

  const covers = coverage(await collect(xfsBootSet(open(content))));
  const root = await address(`ino ${await field("sb 0", "rootino")}`);
  expect(root).toBeGreaterThan(0);
  expect(covers({ offset: root, length: 512 })).toBe(true);
  const log = await address(`fsblock ${await field("sb 0", "logstart")}`);
  expect(covers({ offset: log, length: Number(await field("sb 0", "logblocks")) * 4096 })).toBe(true);
  const groups = Number(await field("sb 0", "agcount"));
  expect(groups).toBeGreaterThan(1);
  for (let group = 0; group < groups; group++) {
    const offset = group * Number(await field("sb 0", "agblocks")) * 4096;
    expect(content.toString("latin1", offset, offset + 4)).toBe("XFSB");
    expect(covers({ offset, length: 4096 })).toBe(true);
    const tree = offset + Number(await field(`agi ${group}`, "root")) * 4096;
    expect(content.toString("latin1", tree, tree + 4)).toBe("IAB3");
    expect(covers({ offset: tree, length: 4096 })).toBe(true);
  }
});

test("follows the tree of a file in many pieces", async () => {
  const content = await image("tree", []);
  const volume = open(content);
  const layout = await layoutOf(volume);
  const number = await lookUp(volume, layout, ["boot", "vmlinuz-6.1.0"]);
  const inode = await readXfsInode(volume, layout, number);
  const [whole] = inode === undefined ? [] : await collect(xfsExtents(volume, layout, inode, 1e9));
  if (inode === undefined || whole === undefined) throw new Error("the kernel lies nowhere");
  // Its one extent, in two leaves below a root in the inode, as a file in hundreds of pieces has them.
  const film = content.indexOf(FILM.subarray(0, 4000)) / 4096;
  const record = inode.fork.subarray(0, 16);
  const leaf = (block: number, count: number): void => {
    const at = block * 4096;
    content.fill(0, at, at + 4096);
    content.write("BMA3", at, "latin1");
    content.writeUInt16BE(count, at + 6);
    for (let index = 0; index < count; index++) record.copy(content, at + 72 + index * 16);
  };
  leaf(film, 1);
  leaf(film + 1, 2);
  const start = whole.offset;
  const at = content.indexOf(record, (number % 8) * 512 + inode.place.offset);
  const forkLength = inode.fork.length;
  content.writeUInt8(3, inode.place.offset + (number % 8) * 512 + 5);
  content.fill(0, at, at + forkLength);
  content.writeUInt16BE(1, at);
  content.writeUInt16BE(2, at + 2);
  const pointers = at + 4 + Math.floor((forkLength - 4) / 16) * 8;
  const group = layout.groupBlocks;
  for (const [index, block] of [film, film + 1].entries()) {
    const fsblock = BigInt(Math.floor(block / group)) * (1n << BigInt(layout.groupBlocksLog)) + BigInt(block % group);
    content.writeBigUInt64BE(fsblock, pointers + index * 8);
  }
  const again = open(content);
  const changed = await readXfsInode(again, layout, number);
  if (changed === undefined) throw new Error("no inode");
  const extents = await collect(xfsExtents(again, layout, changed, 1e9));
  const shown = extents.map(({ offset, length, at: place }): [number, number, boolean] => [
    offset,
    length,
    place === undefined,
  ]);
  expect(shown).toEqual([
    [film * 4096, 4096, true],
    [start, whole.length, false],
    [(film + 1) * 4096, 4096, true],
    [start, whole.length, false],
    [start, whole.length, false],
  ]);
});

test("anything else has none", async () => {
  expect(await collect(xfsBootSet(open(Buffer.alloc(MIB))))).toEqual([]);
  expect(await collect(xfsBootSet(open(Buffer.alloc(100))))).toEqual([]);
});

test("a hostile file system ends within bounds", async () => {
  const images = await Promise.all(FORMS.slice(0, 4).map(([name, options]) => image(`hostile ${name}`, options)));
  const small = images.map((content) => content.subarray(0, 24 * MIB));
  const bytes = async (content: Buffer, offsets: readonly number[]) => offsets.filter((at) => at < content.length);
  const places = await Promise.all(
    small.map(async (content) => {
      const volume = open(content);
      const layout = await layoutOf(volume);
      const inodes = [
        layout.rootInode,
        ...(await Promise.all(["boot", "etc"].map((name) => lookUp(volume, layout, [name])))),
      ];
      const found = await Promise.all(inodes.map((number) => readXfsInode(volume, layout, number)));
      return bytes(
        content,
        found.flatMap((inode) => (inode === undefined ? [] : [inode.place.offset])),
      );
    }),
  );
  const change = fc.record({
    near: fc.nat(3),
    at: fc.nat(4095),
    value: fc.oneof(fc.nat(255), fc.constantFrom(0, 0xff, 1, 0x7f)),
  });
  await fc.assert(
    fc.asyncProperty(fc.nat(3), fc.array(change, { minLength: 1, maxLength: 25 }), async (which, changes) => {
      const content = small[which] ?? Buffer.alloc(0);
      const starts = [0, ...(places[which] ?? [])];
      const source = damaged(
        content,
        changes.map(({ near, at, value }) => [
          (starts[near % starts.length] ?? 0) + (near === 0 ? at % 300 : at),
          value,
        ]),
      );
      const found: Extent[] = [];
      const gather = async (): Promise<void> => {
        for await (const extent of xfsBootSet(new BoundedDisk(source, new ManualClock()))) {
          if (found.push(extent) > 200_000) throw new Error("endless");
        }
      };
      await gather().catch((error: Error) => expect(error.constructor.name).toBe("BudgetSpentError"));
      for (const { offset, length } of found) expect(offset >= 0 && length >= 0).toBe(true);
    }),
    { numRuns: 75 },
  );
}, 180_000);
