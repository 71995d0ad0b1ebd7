import { afterAll, beforeAll, beforeEach, expect, test } from "@jest/globals";
import fc from "fast-check";
import { expectContent, guestRequest, IMAGE_RUNS, ImageFolder } from "./testing/image-folder.ts";
import { qemuCommands, qemuWrites } from "./testing/qemu-writes.ts";

const MIB = 1024 * 1024;
/** No multiple of any cluster size. */
const SIZE = 9 * MIB + 3 * 512;
const WRITES = qemuWrites(["write", "write", "zeros", "discard", "packed"]);

let folder: ImageFolder;
beforeAll(async () => {
  folder = await ImageFolder.create();
});
afterAll(() => folder.remove());

test.each([
  ["compat=0.10", 65_536],
  ["compat=1.1", 65_536],
  ["compat=1.1,cluster_size=512", 512],
  ["compat=1.1,cluster_size=2M", 2 * MIB],
  ["compat=1.1,extended_l2=on", 65_536],
  ["compat=1.1,extended_l2=on,cluster_size=16k", 16_384],
  ["compat=1.1,compression_type=zstd,lazy_refcounts=on,refcount_bits=1", 65_536],
  ["compat=1.1,preallocation=metadata", 65_536],
  ["compat=1.1,preallocation=falloc,extended_l2=on", 65_536],
])("whatever is written to a disk made with %s is read as QEMU reads it", async (options, cluster) => {
  await fc.assert(
    fc.asyncProperty(WRITES, async (writes) => {
      await folder.qemuImg(`create -q -f qcow2 -o ${options} disk ${SIZE}`);
      // Where all clusters are allocated, none can be written compressed.
      const able = options.includes("preallocation") ? writes.filter(({ kind }) => kind !== "packed") : writes;
      await folder.qemuIo("disk", "qcow2", qemuCommands(able, SIZE, cluster));
      await expectContent(await folder.open("disk", "qcow2"), await folder.converted("disk", "qcow2"));
    }),
    { numRuns: IMAGE_RUNS, endOnFailure: true },
  );
});

test.each([
  ["a smaller raw disk", "raw", 3 * MIB + 512],
  ["a larger qcow2 disk", "qcow2", 20 * MIB],
])("over %s", async (_, format, size) => {
  await fc.assert(
    fc.asyncProperty(WRITES, WRITES, fc.boolean(), async (below, above, extended) => {
      await folder.qemuImg(`create -q -f ${format} base ${size}`);
      const own = format === "raw" ? below.filter(({ kind }) => kind === "write") : below;
      await folder.qemuIo("base", format, qemuCommands(own, size, 65_536));
      const options = extended ? "-o extended_l2=on" : "-o compat=1.1";
      await folder.qemuImg(`create -q -f qcow2 ${options} -b base -F ${format} disk ${SIZE}`);
      await folder.qemuIo("disk", "qcow2", qemuCommands(above, SIZE, 65_536));
      await expectContent(await folder.open("disk", "qcow2"), await folder.converted("disk", "qcow2"));
    }),
    { numRuns: IMAGE_RUNS, endOnFailure: true },
  );
});

test("a chain of five, grown on the way, with an internal snapshot at its head", async () => {
  await folder.qemuImg("create -q -f qcow2 link0 1M");
  for (let link = 0; link < 5; link++) {
    const name = `link${link}`;
    const size = (link + 1) * MIB;
    if (link > 0) await folder.qemuImg(`create -q -f qcow2 -b link${link - 1} -F qcow2 ${name}`);
    await folder.qemuImg(`resize -q ${name} ${size}`);
    await folder.qemuIo(name, "qcow2", [`write -P ${link + 1} ${link * 150_016} 300544`]);
  }
  await folder.qemuImg("snapshot -c before link4");
  await folder.qemuIo("link4", "qcow2", ["write -P 99 100k 200k", "write -z 4M 64k"]);
  await folder.qemuImg("resize -q link4 7M");
  const disk = await folder.open("link4", "qcow2");
  expect(disk.image.files.map(({ path }) => path)).toEqual(["/link4", "/link3", "/link2", "/link1", "/link0"]);
  await expectContent(disk, await folder.converted("link4", "qcow2"));
});

test.each(["zlib", "zstd"])("a disk compressed with %s as a whole", async (type) => {
  const source = Buffer.alloc(5 * MIB + 512);
  for (let at = 0; at < source.length; at++) source[at] = at % 70_000 < 30_000 ? (at * at) >>> 11 : at >>> 12;
  await folder.write("source", source);
  await folder.qemuImg(`convert -c -f raw -O qcow2 -o compression_type=${type} source disk`);
  await expectContent(await folder.open("disk", "qcow2"), source);
});

test("tables of a disk of many terabytes are read where they are needed only", async () => {
  await folder.qemuImg("create -q -f qcow2 disk 60T");
  await folder.qemuIo("disk", "qcow2", ["write -P 7 59T 64k", "write -P 8 0 64k"]);
  const file = await folder.file("disk");
  const { openImage } = await import("./open-image.ts");
  const { ImageDisk } = await import("./image-disk.ts");
  const disk = new ImageDisk(await openImage(file, "qcow2", folder.find, guestRequest()));
  const read = await disk.read(59 * 2 ** 40 - 4096, 8192, guestRequest());
  expect(read.equals(Buffer.concat([Buffer.alloc(4096), Buffer.alloc(4096, 7)]))).toBe(true);
  expect(file.bytesRead).toBeLessThan(512 * 1024);
});

/** The header of a version 3 image, to be changed. */
let header: Buffer;
beforeEach(async () => {
  await folder.qemuImg("create -q -f qcow2 plain 1M");
  header = await folder.read("plain");
});

test.each<[string, (bytes: Buffer) => void, string]>([
  ["version 4", (bytes) => bytes.writeUInt32BE(4, 4), "IMAGE_UNSUPPORTED"],
  ["encryption", (bytes) => bytes.writeUInt32BE(2, 32), "IMAGE_UNSUPPORTED"],
  ["an external data file", (bytes) => bytes.writeUInt32BE(4, 76), "IMAGE_UNSUPPORTED"],
  ["an unknown incompatible feature", (bytes) => bytes.writeUInt32BE(0x80, 72), "IMAGE_UNSUPPORTED"],
  ["the mark of corruption", (bytes) => bytes.writeUInt32BE(2, 76), "IMAGE_CORRUPT"],
  ["clusters of 4 MiB", (bytes) => bytes.writeUInt32BE(22, 20), "IMAGE_CORRUPT"],
  ["a table that is too short", (bytes) => bytes.writeUInt32BE(0, 36), "IMAGE_CORRUPT"],
  ["a table of a gigabyte", (bytes) => bytes.writeUInt32BE(2 ** 27, 36), "IMAGE_CORRUPT"],
  ["a table beyond the file", (bytes) => bytes.writeUInt32BE(2 ** 20, 40), "IMAGE_CORRUPT"],
  ["a disk beyond all bounds", (bytes) => bytes.writeUInt32BE(0x7fffffff, 24), "IMAGE_CORRUPT"],
  ["another file", (bytes) => bytes.write("nothing"), "IMAGE_CORRUPT"],
])("%s is refused", async (_, change, code) => {
  change(header);
  await folder.write("changed", header);
  await expect(folder.open("changed", "qcow2")).rejects.toMatchObject({ code });
});

test("real images of kinds that are not offered are refused by name", async () => {
  await folder.qemuImg("create -q -f qcow2 -o data_file=data,data_file_raw=on external 1M");
  await expect(folder.open("external", "qcow2")).rejects.toThrow("its data is in an external file");
  // With LUKS, QEMU would measure for seconds how often a key is to be hashed.
  await folder.qemuImg(
    "create -q -f qcow2 --object secret,id=key,data=secret -o encrypt.format=aes,encrypt.key-secret=key aes 1M",
  );
  await expect(folder.open("aes", "qcow2")).rejects.toThrow("encrypted");
  await folder.qemuImg("create -q -f qcow2 -b plain -F qcow2 lost");
  await folder.run("rm", "plain");
  await expect(folder.open("lost", "qcow2")).rejects.toMatchObject({ code: "IMAGE_FILE_MISSING" });
  await folder.run("qemu-img", "rebase", "-u", "-b", 'json:{"driver":"raw"}', "-F", "raw", "lost");
  await expect(folder.open("lost", "qcow2")).rejects.toMatchObject({ code: "IMAGE_UNSUPPORTED" });
  await folder.qemuImg("rebase -q -u -b lost -F qcow2 lost");
  await expect(folder.open("lost", "qcow2")).rejects.toThrow("it is its own parent");
  await folder.qemuImg("rebase -q -u -b ../../lost -F qcow2 lost");
  await expect(folder.open("lost", "qcow2")).rejects.toMatchObject({ code: "IMAGE_FILE_MISSING" });
});
