import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import fc from "fast-check";
import { ManualClock } from "../../base/testing/manual-clock.ts";
import type { Extent } from "../../disk/block-device.ts";
import { memorySource } from "../../disk/testing/memory-source.ts";
import { noise } from "../../repository/testing/restic.ts";
import { collect, coverage, damaged, ImageWorkshop, placesOf } from "../testing/disk-images.ts";
import { BoundedDisk } from "./bounded-disk.ts";
import { ntfsBootSet } from "./ntfs.ts";
import { readNtfsLayout, repaired } from "./ntfs-layout.ts";
import { NtfsTree } from "./ntfs-tree.ts";

const MIB = 1024 * 1024;
/** Enough for a directory whose index is a tree. */
const MANY = 700;
const WANTED: Readonly<Record<string, Buffer>> = {
  bootmgr: noise(400_000, 1),
  "Boot/BCD": noise(24_576, 2),
  "Windows/System32/ntoskrnl.exe": noise(3 * MIB, 3),
  "Windows/System32/WinLoad.efi": noise(MIB, 4),
  "Windows/System32/config/SYSTEM": noise(2 * MIB, 5),
  "Windows/System32/config/SYSTEM.LOG1": noise(70_000, 6),
  "Windows/System32/drivers/disk.sys": noise(90_000, 7),
};
const OTHERS: Readonly<Record<string, Buffer>> = {
  "Users/film.mkv": noise(4 * MIB, 8),
  "Windows/System32/shell32.dll": noise(2 * MIB, 9),
};
/** One of those that mkntfs leaves free. */
const FREE_RECORD = 40;
let workshop: ImageWorkshop;

beforeAll(async () => {
  workshop = await ImageWorkshop.create();
  const many = Array.from({ length: MANY }, (_, index) => [
    `Windows/System32/library-with-a-long-name-${index}.dll`,
    noise(20, index),
  ]);
  await workshop.tree("files", { ...WANTED, ...OTHERS, ...Object.fromEntries(many) });
  await workshop.run("wimcapture", "--quiet", "--compress=none", "files", "files.wim");
}, 180_000);
afterAll(() => workshop.remove());

async function image(name: string, ...options: readonly string[]): Promise<Buffer> {
  const path = await workshop.blank(name, 64 * MIB);
  await workshop.run("mkntfs", "-F", "-Q", "-q", ...options, path);
  await workshop.run("wimapply", "--quiet", "files.wim", "1", path);
  return readFile(path);
}

const open = (content: Buffer) => new BoundedDisk(memorySource(content), new ManualClock());
const bootSet = async (content: Buffer): Promise<Extent[]> => collect(ntfsBootSet(open(content)));

/** A record as it is written: the last two bytes of each sector are kept in its head, and replaced by a mark. */
function seal(record: Buffer): Buffer {
  const sealed = Buffer.from(record);
  const kept = record.readUInt16LE(4);
  for (let sector = 0; sector < record.length / 512; sector++) {
    const end = (sector + 1) * 512 - 2;
    sealed.writeUInt16LE(record.readUInt16LE(end), kept + 2 + sector * 2);
    sealed.writeUInt16LE(record.readUInt16LE(kept), end);
  }
  return sealed;
}

test.each([
  ["as usual", []],
  ["with small clusters", ["-c", "1024"]],
  ["with large clusters", ["-c", "65536"]],
])("%s: loader, kernel, registry and drivers, not what is of no use", async (name, options) => {
  const content = await image(name, ...options);
  const covers = coverage(await bootSet(content));
  for (const [path, file] of Object.entries(WANTED)) {
    const places = placesOf(content, file);
    expect([path, places.length]).toEqual([path, Math.ceil(file.length / 512)]);
    expect([path, places.filter((place) => !covers(place))]).toEqual([path, []]);
  }
  for (const [path, file] of Object.entries(OTHERS)) {
    expect([path, placesOf(content, file).filter(covers)]).toEqual([path, []]);
  }
});

test("boot sectors, the master file table, its copy and the system's files lie where ntfsinfo finds them", async () => {
  const content = await image("areas");
  const covers = coverage(await bootSet(content));
  const about = await workshop.run("ntfsinfo", "-m", "-f", workshop.path("areas"));
  const field = (name: string): number => Number(new RegExp(`${name}: (\\d+)`).exec(about)?.[1]);
  const cluster = field("Cluster Size");
  expect(covers({ offset: 0, length: 8192 })).toBe(true);
  expect(covers({ offset: content.length - 512, length: 512 })).toBe(true);
  for (const name of ["FILE_MFT", "File_MFTMirr"]) {
    const offset = field(`LCN of Data Attribute for ${name}`) * cluster;
    expect(content.toString("latin1", offset, offset + 4)).toBe("FILE");
    expect(covers({ offset, length: 4 * 1024 })).toBe(true);
  }
  // $UpCase begins with the first capital letters' table: 0, 1, 2 as 16-bit numbers.
  const upcase = content.indexOf(Buffer.from(Uint16Array.from({ length: 97 }, (_, code) => code).buffer));
  expect(covers({ offset: upcase, length: 131_072 })).toBe(true);
});

test("a directory whose index is a tree has all its names", async () => {
  const volume = open(await image("directory"));
  const layout = await readNtfsLayout(volume);
  const tree = layout === undefined ? undefined : await NtfsTree.open(volume, layout);
  let number = tree?.root ?? 0;
  for (const name of ["windows", "system32"]) {
    const node = await tree?.node(number);
    if (tree === undefined || node === undefined) throw new Error("no directory");
    number = (await tree.directory(node)).entries.get(name) ?? 0;
  }
  const node = await tree?.node(number);
  if (tree === undefined || node === undefined) throw new Error("no directory");
  const { entries } = await tree.directory(node);
  const libraries = [...entries.keys()].filter((name) => name.startsWith("library-"));
  expect(libraries).toHaveLength(MANY);
  expect(entries.has("config") && entries.has("ntoskrnl.exe") && entries.has("winload.efi")).toBe(true);
});

test("a file whose list says that its data is described in another record is found", async () => {
  const content = await image("list");
  const before = open(content);
  const layout = await readNtfsLayout(before);
  const tree = layout === undefined ? undefined : await NtfsTree.open(before, layout);
  const root = await tree?.node(tree.root);
  if (layout === undefined || tree === undefined || root === undefined) throw new Error("no root");
  const number = (await tree.directory(root)).entries.get("bootmgr") ?? 0;
  const file = await tree.node(number);
  const base = repaired(content.subarray(file?.place.offset, (file?.place.offset ?? 0) + 1024), "FILE");
  if (file === undefined || base === undefined) throw new Error("no file");
  const wanted = await collect(tree.extents(file, 1e9));
  expect(wanted.length).toBeGreaterThan(0);

  let at = base.readUInt16LE(20);
  while (base.readUInt32LE(at) !== 0x80) at += base.readUInt32LE(at + 4);
  const data = Buffer.from(base.subarray(at, at + base.readUInt32LE(at + 4)));
  // The data's description moves to a record that was free; a list with one entry takes its place.
  const other = Buffer.from(base);
  other.fill(0, 56);
  other.writeUInt16LE(56, 20);
  data.copy(other, 56);
  other.writeUInt32LE(0xffffffff, 56 + data.length);
  base.fill(0, at);
  base.writeUInt32LE(0x20, at);
  base.writeUInt32LE(56, at + 4);
  base.writeUInt32LE(32, at + 16);
  base.writeUInt16LE(24, at + 20);
  base.writeUInt32LE(0x80, at + 24);
  base.writeUInt16LE(32, at + 28);
  base.writeUInt32LE(FREE_RECORD, at + 40);
  base.writeUInt32LE(0xffffffff, at + 56);
  seal(other).copy(content, layout.table + FREE_RECORD * 1024);
  seal(base).copy(content, file.place.offset);

  const after = await NtfsTree.open(open(content), layout);
  const found = await after?.node(number);
  if (after === undefined || found === undefined) throw new Error("no file");
  expect(await collect(after.extents(found, 1e9))).toEqual(wanted);
});

test("anything else has none", async () => {
  expect(await bootSet(Buffer.alloc(MIB))).toEqual([]);
  expect(await bootSet(Buffer.alloc(100))).toEqual([]);
});

test("a hostile file system ends within bounds, and names nothing behind its end", async () => {
  const content = (await image("hostile")).subarray(0, 24 * MIB);
  const layout = await readNtfsLayout(open(content));
  const records = layout?.table ?? 0;
  const change = fc.record({
    place: fc.oneof(
      fc.nat(80),
      fc.integer({ min: records, max: records + 12 * 1024 }),
      fc.integer({ min: records + 64 * 1024, max: records + 76 * 1024 }),
    ),
    value: fc.oneof(fc.nat(255), fc.constantFrom(0, 0xff, 1, 0x7f, 0x80)),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 25 }), async (changes) => {
      const source = damaged(
        content,
        changes.map(({ place, value }) => [place, value]),
      );
      const found: Extent[] = [];
      const gather = async (): Promise<void> => {
        for await (const extent of ntfsBootSet(new BoundedDisk(source, new ManualClock()))) {
          if (found.push(extent) > 200_000) throw new Error("endless");
        }
      };
      await gather().catch((error: Error) => expect(error.constructor.name).toBe("BudgetSpentError"));
      for (const { offset, length } of found) expect(offset >= 0 && length >= 0).toBe(true);
    }),
    { numRuns: 75 },
  );
}, 180_000);

test("a file table in hundreds of thousands of pieces costs little for each record that lies in none of them", async () => {
  const recordBytes = 65_536;
  const clusterBytes = 4096;
  // 33 records, each full of pieces of one cluster to and fro; the first piece holds them all.
  const record = (number: number): Buffer => {
    const bytes = Buffer.alloc(recordBytes);
    bytes.write("FILE", 0, "latin1");
    bytes.writeUInt16LE(48, 4);
    bytes.writeUInt16LE(recordBytes / 512 + 1, 6);
    bytes.writeUInt16LE(512, 20);
    bytes.writeUInt16LE(1, 22);
    let at = 512;
    if (number === 0) {
      bytes.writeUInt32LE(0x20, at);
      bytes.writeUInt32LE(24 + 32 * 24, at + 4);
      bytes.writeUInt32LE(32 * 24, at + 16);
      bytes.writeUInt16LE(24, at + 20);
      for (let other = 0; other < 32; other++) {
        bytes.writeUInt16LE(24, at + 24 + other * 24 + 4);
        bytes.writeUIntLE(other + 1, at + 24 + other * 24 + 16, 6);
      }
      at += 24 + 32 * 24;
    }
    for (let part = 0; part < 5; part++) {
      const runs = Buffer.concat([
        Buffer.from(number === 0 && part === 0 ? [0x12, 0x10, 0x02, 1] : [0x11, 1, 1]),
        ...Array.from({ length: 4000 }, (_, index) => Buffer.from([0x11, 1, index % 2 === 0 ? 1 : 0xff])),
      ]);
      const length = 64 + runs.length + 1;
      bytes.writeUInt32LE(0x80, at);
      bytes.writeUInt32LE(length, at + 4);
      bytes.writeUInt8(1, at + 8);
      bytes.writeBigUInt64LE(BigInt(number * 5 + part), at + 16);
      bytes.writeUInt16LE(64, at + 32);
      runs.copy(bytes, at + 64);
      at += length;
    }
    bytes.writeUInt32LE(0xffffffff, at);
    return seal(bytes);
  };
  const records = Buffer.concat(Array.from({ length: 33 }, (_, number) => record(number)));
  const content = Buffer.concat([Buffer.alloc(clusterBytes), records, Buffer.alloc(MIB)]);
  const layout = { size: content.length, clusterBytes, recordBytes, table: clusterBytes, mirror: 0 };
  const tree = await NtfsTree.open(open(content), layout);
  expect(tree?.table.length).toBeGreaterThan(600_000);
  expect(await tree?.node(32)).toBeDefined();
  const { user } = process.cpuUsage();
  for (let number = 0; number < 2000; number++) expect(await tree?.node(2 ** 40 + number)).toBeUndefined();
  // Milliseconds; to look at each piece took more than ten seconds.
  expect(process.cpuUsage().user - user).toBeLessThan(5_000_000);
});
