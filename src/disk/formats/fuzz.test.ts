import { afterAll, beforeAll, expect, test } from "@jest/globals";
import fc from "fast-check";
import { DiskError } from "../errors.ts";
import { ImageDisk } from "./image-disk.ts";
import { openImage } from "./open-image.ts";
import { changes, damage, reseal, spotsOf } from "./testing/damage.ts";
import { differencingVhd, differencingVhdx } from "./testing/differencing.ts";
import { guestRequest, ImageFolder, MemoryFile } from "./testing/image-folder.ts";
import { withLog } from "./testing/vhdx-log-writer.ts";
import type { ImageFormat } from "./virtual-image.ts";

const MIB = 1024 * 1024;
/** Of what a run may read and answer: an image that wants more does something in a circle. */
const WORK_LIMIT = 96 * MIB;
/** More of them are a matter of minutes. */
const RUNS = Number(process.env.VMRESTORE_FUZZ_RUNS ?? 25);

let folder: ImageFolder;

beforeAll(async () => {
  folder = await ImageFolder.create();
  const source = Buffer.alloc(MIB + 512);
  for (let at = 0; at < source.length; at++) source[at] = at % 200_000 < 90_000 ? (at * at) >>> 11 : 0;
  await folder.write("source", source);
  const create = async (format: string, options: string, name: string): Promise<void> => {
    await folder.qemuImg(`create -q -f ${format} ${options} ${name} 3M`);
    await folder.qemuIo(name, format, ["write -P 1 100k 70k", "write -P 2 2M 512", "write -z 128k 64k"]);
  };
  await create("qcow2", "-o compat=1.1", "plain.qcow2");
  await create("qcow2", "-o extended_l2=on,cluster_size=16k", "extended.qcow2");
  await folder.qemuImg("create -q -f qcow2 -b plain.qcow2 -F qcow2 overlay.qcow2");
  await folder.qemuIo("overlay.qcow2", "qcow2", ["write -P 4 1k 3k", "write -P 5 1M 1k"]);
  await folder.qemuImg("convert -c -f raw -O qcow2 source deflate.qcow2");
  await folder.qemuImg("convert -c -f raw -O qcow2 -o compression_type=zstd source zstd.qcow2");
  await create("vmdk", "-o subformat=monolithicSparse", "sparse.vmdk");
  await create("vmdk", "-o subformat=twoGbMaxExtentSparse", "split.vmdk");
  await folder.qemuImg("convert -f raw -O vmdk -o subformat=streamOptimized source streamed.vmdk");
  await create("vpc", "-o force_size=on", "dynamic.vhd");
  await create("vpc", "-o subformat=fixed,force_size=on", "fixed.vhd");
  await create("vhdx", "-o block_size=1M", "dynamic.vhdx");
  await create("vhdx", "-o block_size=1M,block_state_zero=off", "empty.vhdx");
  const own = [{ first: 100, count: 70, value: 9 }];
  await folder.write("child.vhd", differencingVhd(await folder.read("dynamic.vhd"), "dynamic.vhd", own, 65_536));
  const [empty, base] = [await folder.read("empty.vhdx"), await folder.read("dynamic.vhdx")];
  await folder.write("child.vhdx", differencingVhdx(empty, base, { relative_path: "dynamic.vhdx" }, 3 * MIB, own));
  await folder.write("logged.vhdx", withLog(base, [[{ page: 512, value: 3, pages: 2 }]], 0, 0));
}, 180_000);
afterAll(() => folder.remove());

/** What an image does is an error of the right kind, or as many bytes as were asked for. */
async function outcome<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (!(error instanceof DiskError) || error.code === "OUT_OF_RANGE") throw error;
    expect(error.message.length).toBeLessThan(700);
    return undefined;
  }
}

async function explore(disk: ImageDisk, places: readonly number[]): Promise<void> {
  let answered = 0;
  for (const place of places) {
    const offset = Math.floor((place / 1000) * disk.size);
    const length = Math.min(disk.size - offset, 70_000);
    const read = await outcome(disk.read(offset, length, guestRequest()));
    if (read !== undefined) expect(read).toHaveLength(length);
    const reach = Math.min(disk.size - offset, disk.rangesLimit, 64 * MIB);
    const ranges = (await outcome(disk.fileRanges(offset, reach, guestRequest()))) ?? [];
    for (const { file, offset: at, length: bytes } of ranges) expect(at >= 0 && at + bytes <= file.size).toBe(true);
    answered += length + ranges.length * 64;
    const covered = disk.extents(offset, reach).reduce((sum, extent) => sum + extent.length, 0);
    expect(covered).toBe(reach);
  }
  expect(answered).toBeLessThan(WORK_LIMIT);
}

test.each<[string, ImageFormat, string]>([
  ["plain.qcow2", "qcow2", "plain.qcow2"],
  ["extended.qcow2", "qcow2", "extended.qcow2"],
  ["overlay.qcow2", "qcow2", "overlay.qcow2"],
  ["overlay.qcow2", "qcow2", "plain.qcow2"],
  ["deflate.qcow2", "qcow2", "deflate.qcow2"],
  ["zstd.qcow2", "qcow2", "zstd.qcow2"],
  ["sparse.vmdk", "vmdk", "sparse.vmdk"],
  ["split.vmdk", "vmdk", "split.vmdk"],
  ["split.vmdk", "vmdk", "split-s001.vmdk"],
  ["streamed.vmdk", "vmdk", "streamed.vmdk"],
  ["dynamic.vhd", "vhd", "dynamic.vhd"],
  ["fixed.vhd", "vhd", "fixed.vhd"],
  ["dynamic.vhdx", "vhdx", "dynamic.vhdx"],
  ["child.vhd", "vhd", "child.vhd"],
  ["child.vhd", "vhd", "dynamic.vhd"],
  ["child.vhdx", "vhdx", "child.vhdx"],
  ["child.vhdx", "vhdx", "dynamic.vhdx"],
  ["logged.vhdx", "vhdx", "logged.vhdx"],
])("%s (%s), with %s damaged in any way, ends in an error or in data", async (head, format, damagedName) => {
  const content = await folder.read(damagedName);
  const spots = spotsOf(content, 3000);
  const others = new Map(await Promise.all(FILES.map(async (name) => [name, await folder.file(name)] as const)));
  const places = fc.array(fc.nat(1000), { minLength: 3, maxLength: 3 });
  await fc.assert(
    fc.asyncProperty(changes(), fc.boolean(), places, async (list, sealed, where) => {
      const bytes = damage(content, spots, list);
      if (sealed) reseal(format, bytes);
      const files = new Map(others).set(damagedName, new MemoryFile(`/${damagedName}`, bytes));
      for (const file of files.values()) file.bytesRead = 0;
      const find = async (path: string): Promise<MemoryFile | undefined> => files.get(path.slice(1));
      const file = files.get(head);
      if (file === undefined) throw new Error("no such image");
      for (const as of [format, "auto"] as const) {
        const image = await outcome(openImage(file, as, find, guestRequest()));
        if (image !== undefined) await explore(new ImageDisk(image), [0, 1000, ...where]);
      }
      const bytesRead = [...files.values()].reduce((sum, { bytesRead: count }) => sum + count, 0);
      expect(bytesRead).toBeLessThan(WORK_LIMIT);
    }),
    { numRuns: RUNS, endOnFailure: true },
  );
});

const FILES = ["plain.qcow2", "overlay.qcow2", "extended.qcow2", "deflate.qcow2", "zstd.qcow2"].concat(
  ["sparse.vmdk", "split.vmdk", "split-s001.vmdk", "streamed.vmdk", "dynamic.vhd", "fixed.vhd", "child.vhd"],
  ["dynamic.vhdx", "child.vhdx", "logged.vhdx"],
);
