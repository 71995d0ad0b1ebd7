import { afterAll, beforeAll, expect, test } from "@jest/globals";
import fc from "fast-check";
import { expectContent, guestRequest, IMAGE_RUNS, ImageFolder } from "./testing/image-folder.ts";
import { qemuCommands, qemuWrites } from "./testing/qemu-writes.ts";

const MIB = 1024 * 1024;
const SIZE = 9 * MIB + 3 * 512;
const WRITES = qemuWrites(["write", "write", "zeros"]);

let folder: ImageFolder;
beforeAll(async () => {
  folder = await ImageFolder.create();
});
afterAll(() => folder.remove());

test.each(["subformat=dynamic,force_size=on", "subformat=dynamic", "subformat=fixed,force_size=on", "subformat=fixed"])(
  "whatever is written to a disk made with %s is read as QEMU reads it",
  async (options) => {
    await fc.assert(
      fc.asyncProperty(WRITES, async (writes) => {
        await folder.qemuImg(`create -q -f vpc -o ${options} disk ${SIZE}`);
        await folder.qemuIo("disk", "vpc", qemuCommands(writes, SIZE, 65_536));
        await expectContent(await folder.open("disk", "vhd"), await folder.converted("disk", "vpc"));
      }),
      { numRuns: IMAGE_RUNS, endOnFailure: true },
    );
  },
);

test("the copy at the beginning counts where the footer is damaged", async () => {
  await folder.qemuImg(`create -q -f vpc -o force_size=on disk ${SIZE}`);
  await folder.qemuIo("disk", "vpc", ["write -P 5 3M 1M"]);
  const expected = await folder.converted("disk", "vpc");
  const bytes = await folder.read("disk");
  bytes.fill(7, bytes.length - 400);
  await folder.write("disk", bytes);
  await expectContent(await folder.open("disk", "vhd"), expected);
  bytes.fill(7, 20, 30);
  await folder.write("disk", bytes);
  await expect(folder.open("disk", "vhd")).rejects.toThrow("checksum");
});

test("a dynamic disk whose last block is cut off, so that only the copy of its footer is left, is not read as zeros", async () => {
  await folder.qemuImg(`create -q -f vpc -o force_size=on disk ${SIZE}`);
  await folder.qemuIo("disk", "vpc", ["write -P 5 2M 2M"]);
  const bytes = await folder.read("disk");
  await folder.write("disk", bytes.subarray(0, bytes.length - 300_000));
  const disk = await folder.open("disk", "vhd");
  expect((await disk.read(0, 2 * MIB, guestRequest())).equals(Buffer.alloc(2 * MIB))).toBe(true);
  await expect(disk.read(4 * MIB - 4096, 4096, guestRequest())).rejects.toMatchObject({ code: "IMAGE_CORRUPT" });
  await expect(disk.read(4 * MIB - 299_500, 4096, guestRequest())).rejects.toMatchObject({ code: "IMAGE_CORRUPT" });
});

test("a fixed disk of which a part is missing is refused", async () => {
  await folder.qemuImg("create -q -f vpc -o subformat=fixed,force_size=on disk 3M");
  const bytes = await folder.read("disk");
  await folder.write("disk", bytes.subarray(512));
  await expect(folder.open("disk", "vhd")).rejects.toMatchObject({ code: "IMAGE_CORRUPT" });
});
