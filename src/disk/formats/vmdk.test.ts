import { afterAll, beforeAll, expect, test } from "@jest/globals";
import fc from "fast-check";
import { expectContent, IMAGE_RUNS, ImageFolder } from "./testing/image-folder.ts";
import { qemuCommands, qemuWrites } from "./testing/qemu-writes.ts";

const MIB = 1024 * 1024;
const SIZE = 9 * MIB + 3 * 512;
const WRITES = qemuWrites(["write", "write", "zeros"]);

let folder: ImageFolder;
beforeAll(async () => {
  folder = await ImageFolder.create();
});
afterAll(() => folder.remove());

test.each([
  "subformat=monolithicSparse",
  "subformat=monolithicSparse,zeroed_grain=on",
  "subformat=monolithicFlat",
  "subformat=twoGbMaxExtentSparse",
  "subformat=twoGbMaxExtentFlat",
])("whatever is written to a disk made with %s is read as QEMU reads it", async (options) => {
  await fc.assert(
    fc.asyncProperty(WRITES, async (writes) => {
      await folder.qemuImg(`create -q -f vmdk -o ${options} disk.vmdk ${SIZE}`);
      await folder.qemuIo("disk.vmdk", "vmdk", qemuCommands(writes, SIZE, 65_536));
      await expectContent(await folder.open("disk.vmdk", "vmdk"), await folder.converted("disk.vmdk", "vmdk"));
    }),
    { numRuns: IMAGE_RUNS, endOnFailure: true },
  );
});

test.each(["monolithicSparse", "streamOptimized", "twoGbMaxExtentSparse", "monolithicFlat"])(
  "a disk converted to %s as a whole",
  async (subformat) => {
    const source = Buffer.alloc(5 * MIB + 7 * 512);
    for (let at = 0; at < source.length; at++) source[at] = at % 200_000 < 90_000 ? (at * at) >>> 11 : 0;
    await folder.write("source", source);
    await folder.qemuImg(`convert -f raw -O vmdk -o subformat=${subformat} source whole.vmdk`);
    await expectContent(await folder.open("whole.vmdk", "vmdk"), source);
  },
);

test("a disk of several sparse extents", async () => {
  await folder.qemuImg("create -q -f vmdk -o subformat=twoGbMaxExtentSparse large.vmdk 5G");
  const edge = 2 * 1024 * MIB;
  await folder.qemuIo("large.vmdk", "vmdk", [`write -P 5 ${edge - 8192} 16384`, `write -P 6 ${2 * edge + 512} 512`]);
  const disk = await folder.open("large.vmdk", "vmdk");
  expect(disk.size).toBe(5 * 1024 * MIB);
  const request = { readClass: "guest", missed: false } as const;
  const first = await disk.read(edge - 12_288, 24_576, request);
  expect(first.equals(Buffer.concat([Buffer.alloc(4096), Buffer.alloc(16_384, 5), Buffer.alloc(4096)]))).toBe(true);
  const second = await disk.read(2 * edge, 1536, request);
  expect(second.equals(Buffer.concat([Buffer.alloc(512), Buffer.alloc(512, 6), Buffer.alloc(512)]))).toBe(true);
});

test("a delta over its parent, as long as the parent has not changed", async () => {
  await fc.assert(
    fc.asyncProperty(WRITES, WRITES, async (below, above) => {
      await folder.qemuImg(`create -q -f vmdk base.vmdk ${SIZE}`);
      await folder.qemuIo("base.vmdk", "vmdk", qemuCommands(below, SIZE, 65_536));
      await folder.qemuImg("create -q -f vmdk -b base.vmdk -F vmdk delta.vmdk");
      await folder.qemuIo("delta.vmdk", "vmdk", qemuCommands(above, SIZE, 65_536));
      await expectContent(await folder.open("delta.vmdk", "vmdk"), await folder.converted("delta.vmdk", "vmdk"));
    }),
    { numRuns: IMAGE_RUNS, endOnFailure: true },
  );
  const base = await folder.read("base.vmdk");
  base.write("00000000", base.indexOf("\nCID=") + 5);
  await folder.write("base.vmdk", base);
  await expect(folder.open("delta.vmdk", "vmdk")).rejects.toMatchObject({ code: "IMAGE_MISMATCH" });
});

test("a streamed disk whose tables only its footer finds, as VMware's tools write it, and only as a whole", async () => {
  const source = Buffer.concat([Buffer.alloc(MIB, 3), Buffer.alloc(MIB), Buffer.alloc(70_144, 4)]);
  await folder.write("source", source);
  await folder.qemuImg("convert -f raw -O vmdk -o subformat=streamOptimized source streamed.vmdk");
  const streamed = await folder.read("streamed.vmdk");
  const header = Buffer.from(streamed.subarray(0, 512));
  streamed.fill(0xff, 56, 64);
  const marker = Buffer.alloc(512);
  marker.writeUInt32LE(1, 0);
  marker.writeUInt32LE(3, 12);
  const whole = Buffer.concat([streamed, marker, header, Buffer.alloc(512)]);
  await folder.write("streamed.vmdk", whole);
  await expectContent(await folder.open("streamed.vmdk", "vmdk"), source);
  expect((await folder.converted("streamed.vmdk", "vmdk")).equals(source)).toBe(true);
  await folder.write("streamed.vmdk", whole.subarray(0, whole.length - 512));
  await expect(folder.open("streamed.vmdk", "vmdk")).rejects.toMatchObject({ code: "IMAGE_CORRUPT" });
});

test("the first of the two directories counts, as for QEMU: the redundant one may be behind it, or not there", async () => {
  await folder.qemuImg(`create -q -f vmdk disk.vmdk ${SIZE}`);
  await folder.qemuIo("disk.vmdk", "vmdk", ["write -P 5 1M 1M"]);
  const bytes = await folder.read("disk.vmdk");
  const redundant = Number(bytes.readBigUInt64LE(48)) * 512;
  bytes.fill(0, redundant, redundant + 512);
  await folder.write("disk.vmdk", bytes);
  const expected = await folder.converted("disk.vmdk", "vmdk");
  expect(expected[MIB]).toBe(5);
  await expectContent(await folder.open("disk.vmdk", "vmdk"), expected);
  bytes.writeBigUInt64LE(0n, 48);
  await folder.write("disk.vmdk", bytes);
  expect((await folder.converted("disk.vmdk", "vmdk")).equals(expected)).toBe(true);
  await expectContent(await folder.open("disk.vmdk", "vmdk"), expected);
});

test("one piece of a split disk is not the disk", async () => {
  await folder.qemuImg("create -q -f vmdk -o subformat=twoGbMaxExtentSparse split.vmdk 3M");
  await expect(folder.open("split-s001.vmdk", "vmdk")).rejects.toThrow("one extent of a disk");
  await folder.run("rm", "split-s001.vmdk");
  await expect(folder.open("split.vmdk", "vmdk")).rejects.toMatchObject({ code: "IMAGE_FILE_MISSING" });
});
