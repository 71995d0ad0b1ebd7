import { afterAll, beforeAll, expect, test } from "@jest/globals";
import fc from "fast-check";
import { PatchedFile } from "./patched-file.ts";
import { expectContent, guestRequest, IMAGE_RUNS, ImageFolder } from "./testing/image-folder.ts";
import { qemuCommands, qemuWrites } from "./testing/qemu-writes.ts";

const MIB = 1024 * 1024;
/** Where QEMU puts the block allocation table behind a log of 1 MiB. */
const TABLE_AT = 2 * MIB;
const SIZE = 9 * MIB + 3 * 512;
const WRITES = qemuWrites(["write", "write", "zeros"]);

let folder: ImageFolder;
beforeAll(async () => {
  folder = await ImageFolder.create();
});
afterAll(() => folder.remove());

test.each([
  "subformat=dynamic",
  "subformat=dynamic,block_size=1M",
  "subformat=dynamic,block_size=1M,block_state_zero=off",
  "subformat=fixed,block_size=2M",
])("whatever is written to a disk made with %s is read as QEMU reads it", async (options) => {
  await fc.assert(
    fc.asyncProperty(WRITES, async (writes) => {
      await folder.qemuImg(`create -q -f vhdx -o ${options} disk ${SIZE}`);
      await folder.qemuIo("disk", "vhdx", qemuCommands(writes, SIZE, 65_536));
      await expectContent(await folder.open("disk", "vhdx"), await folder.converted("disk", "vhdx"));
    }),
    { numRuns: IMAGE_RUNS, endOnFailure: true },
  );
});

test("blocks of states that only drafts of the format knew are zeros, as QEMU has it; one that is cut off is not", async () => {
  await folder.qemuImg(`create -q -f vhdx -o subformat=dynamic,block_size=1M,log_size=1M disk ${SIZE}`);
  await folder.qemuIo("disk", "vhdx", ["write -P 5 1M 2M"]);
  const bytes = await folder.read("disk");
  await folder.write("cut", bytes.subarray(0, bytes.length - 4096));
  const unmapped = 5;
  bytes.writeUInt8((bytes.readUInt8(TABLE_AT + 8) & ~7) | unmapped, TABLE_AT + 8);
  await folder.write("disk", bytes);
  const expected = await folder.converted("disk", "vhdx");
  expect([expected[MIB], expected[2 * MIB]]).toEqual([0, 5]);
  await expectContent(await folder.open("disk", "vhdx"), expected);
  const disk = await folder.open("cut", "vhdx");
  expect((await disk.read(MIB, MIB, guestRequest())).equals(Buffer.alloc(MIB, 5))).toBe(true);
  await expect(disk.read(3 * MIB - 8192, 8192, guestRequest())).rejects.toMatchObject({ code: "IMAGE_CORRUPT" });
});

/** Opens an image so that whatever is written to its first MiB of tables fails: what the log holds stays there. */
async function crashBeforeTable(name: string, command: string): Promise<void> {
  const file = {
    driver: "blkdebug",
    image: { driver: "file", filename: name },
    "inject-error": [{ event: "none", iotype: "write", sector: TABLE_AT / 512, errno: 5 }],
  };
  const image = `json:${JSON.stringify({ driver: "vhdx", file })}`;
  const crash = folder.run("qemu-io", "-c", command, "-c", "sigraise 9", image);
  await expect(crash).rejects.toMatchObject({ signal: "SIGKILL" });
}

test("a log that was left behind by a crash is replayed as QEMU replays it", async () => {
  await folder.qemuImg("create -q -f vhdx -o block_size=1M,log_size=1M disk 64M");
  await folder.qemuIo("disk", "vhdx", ["write -P 1 3M 64k"]);
  await crashBeforeTable("disk", "write -P 2 20M 64k");
  const opened = await folder.open("disk", "vhdx");
  expect(opened.image.files[0]).toBeInstanceOf(PatchedFile);
  await folder.run("cp", "disk", "replayed");
  await folder.qemuImg("check -q -r all -f vhdx replayed");
  const expected = await folder.converted("replayed", "vhdx");
  expect(expected[20 * MIB]).toBe(2);
  await expectContent(opened, expected);

  const bytes = await folder.read("disk");
  bytes.fill(9, MIB + 5000, MIB + 5010);
  await folder.write("disk", bytes);
  await expect(folder.open("disk", "vhdx")).rejects.toThrow("its log is said to be used, but holds no valid entries");
});
