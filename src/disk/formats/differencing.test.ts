import { afterAll, beforeAll, expect, test } from "@jest/globals";
import fc from "fast-check";
import { differencingVhd, differencingVhdx, overlaid } from "./testing/differencing.ts";
import { expectContent, guestRequest, IMAGE_RUNS, ImageFolder } from "./testing/image-folder.ts";
import { qemuCommands, qemuWrites } from "./testing/qemu-writes.ts";

const MIB = 1024 * 1024;
const SIZE = 5 * MIB + 3 * 512;
const WRITES = qemuWrites(["write", "write", "zeros"]);
const RUNS = fc.array(
  fc.record({
    first: fc.nat(SIZE / 512 - 1),
    count: fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 5000 })),
    value: fc.integer({ min: 1, max: 255 }),
  }),
  { maxLength: 12 },
);
/** libvhdi takes the end of a run of sectors for that of its byte in the bitmap, and reads at random where there is no bitmap. */
const WHOLE_BYTES = RUNS.map((runs) =>
  runs.map(({ first, count, value }) => ({ first, count: Math.ceil((first + count) / 8) * 8 - first, value })),
).filter((runs) => runs.length > 0);

let folder: ImageFolder;
beforeAll(async () => {
  folder = await ImageFolder.create();
});
afterAll(() => folder.remove());

/** What another reader of these formats, libvhdi, sees in a child over its parent; all of it unless a part is named. */
async function libvhdi(child: string, parent: string, part = { offset: 0, length: SIZE }): Promise<Buffer> {
  const script = `
import pyvhdi, sys
parent = pyvhdi.file(); parent.open(sys.argv[2])
child = pyvhdi.file(); child.open(sys.argv[1]); child.set_parent(parent)
open(sys.argv[3], "wb").write(child.read_buffer_at_offset(${part.length}, ${part.offset}))`;
  await folder.run("/usr/bin/python3", "-c", script, child, parent, "libvhdi.raw");
  return folder.read("libvhdi.raw");
}

test("a differencing VHD over a dynamic one is what libvhdi reads", async () => {
  await fc.assert(
    fc.asyncProperty(WRITES, fc.boolean(), RUNS, WHOLE_BYTES, async (below, whole, anywhere, bytes) => {
      const runs = whole ? bytes : anywhere;
      await folder.qemuImg(`create -q -f vpc -o force_size=on base.vhd ${SIZE}`);
      await folder.qemuIo("base.vhd", "vpc", qemuCommands(below, SIZE, 65_536));
      // libvhdi expects blocks as large as the parent's.
      const block = whole ? 2 * MIB : 65_536;
      const child = differencingVhd(await folder.read("base.vhd"), ".\\base.vhd", runs, block);
      await folder.write("child.vhd", child);
      const expected = overlaid(await folder.converted("base.vhd", "vpc"), SIZE, runs);
      if (whole) expect((await libvhdi("child.vhd", "base.vhd")).equals(expected)).toBe(true);
      await expectContent(await folder.open("child.vhd", "vhd"), expected);
    }),
    { numRuns: IMAGE_RUNS, endOnFailure: true },
  );
});

test("a chain of differencing VHDs, of which one names its parent by a path of another machine", async () => {
  await folder.qemuImg(`create -q -f vpc -o force_size=on base.vhd ${SIZE}`);
  const first = differencingVhd(await folder.read("base.vhd"), "D:\\machines\\base.vhd", [
    { first: 3, count: 200, value: 5 },
  ]);
  await folder.write("first.avhd", first);
  await folder.write("second.avhd", differencingVhd(first, "first.avhd", [{ first: 100, count: 9, value: 6 }]));
  const expected = overlaid(overlaid(Buffer.alloc(SIZE), SIZE, [{ first: 3, count: 200, value: 5 }]), SIZE, [
    { first: 100, count: 9, value: 6 },
  ]);
  const disk = await folder.open("second.avhd", "vhd");
  expect(disk.image.files.map(({ path }) => path)).toEqual(["/second.avhd", "/first.avhd", "/base.vhd"]);
  await expectContent(disk, expected);
  await expect(folder.open("second.avhd", "auto")).rejects.toMatchObject({ code: "IMAGE_AMBIGUOUS" });
});

test("a parent that is another disk, or is missing, is refused", async () => {
  await folder.qemuImg(`create -q -f vpc -o force_size=on base.vhd ${SIZE}`);
  await folder.write("child.vhd", differencingVhd(await folder.read("base.vhd"), "base.vhd", []));
  await folder.qemuImg(`create -q -f vpc -o force_size=on base.vhd ${SIZE}`);
  await expect(folder.open("child.vhd", "vhd")).rejects.toMatchObject({ code: "IMAGE_MISMATCH" });
  await folder.run("rm", "base.vhd");
  await expect(folder.open("child.vhd", "vhd")).rejects.toMatchObject({ code: "IMAGE_FILE_MISSING" });
});

async function vhdxPair(
  below: string[],
  runs: Parameters<typeof differencingVhdx>[4],
  names: Record<string, string>,
  size: number,
): Promise<void> {
  // Blocks that are not there, not blocks of zeros, which would hide the parent.
  const options = "-o subformat=dynamic,block_size=1M,block_state_zero=off";
  await folder.qemuImg(`create -q -f vhdx ${options} base.vhdx ${size}`);
  await folder.qemuImg(`create -q -f vhdx ${options} empty.vhdx ${size}`);
  await folder.qemuIo("base.vhdx", "vhdx", below);
  const child = differencingVhdx(await folder.read("empty.vhdx"), await folder.read("base.vhdx"), names, size, runs);
  await folder.write("child.vhdx", child);
}

async function vhdxContent(runs: Parameters<typeof overlaid>[2]): Promise<Buffer> {
  return overlaid(await folder.converted("base.vhdx", "vhdx"), SIZE, runs);
}

test("a differencing VHDX over a dynamic one is what libvhdi reads", async () => {
  await fc.assert(
    fc.asyncProperty(WRITES, fc.boolean(), RUNS, WHOLE_BYTES, async (below, whole, anywhere, bytes) => {
      const runs = whole ? bytes : anywhere;
      const names = { relative_path: ".\\base.vhdx", absolute_win32_path: "C:\\base.vhdx" };
      await vhdxPair(qemuCommands(below, SIZE, 65_536), runs, names, SIZE);
      const expected = await vhdxContent(runs);
      if (whole) expect((await libvhdi("child.vhdx", "base.vhdx")).equals(expected)).toBe(true);
      await expectContent(await folder.open("child.vhdx", "vhdx"), expected);
    }),
    { numRuns: IMAGE_RUNS, endOnFailure: true },
  );
});

test("a VHDX's parent is found by the last part of an absolute path, and known by the id of its data", async () => {
  const runs = [{ first: 2000, count: 3000, value: 9 }];
  await vhdxPair(["write -P 4 1M 2M"], runs, { absolute_win32_path: "D:\\machines\\base.vhdx" }, SIZE);
  const expected = await vhdxContent(runs);
  await expectContent(await folder.open("child.vhdx", "vhdx"), expected);
  await expect(folder.open("child.vhdx", "auto")).rejects.toMatchObject({ code: "IMAGE_AMBIGUOUS" });
  await folder.qemuIo("base.vhdx", "vhdx", ["write -P 5 0 512"]);
  await expect(folder.open("child.vhdx", "vhdx")).rejects.toMatchObject({ code: "IMAGE_MISMATCH" });
});

test("a differencing VHDX of several chunks: each has its bitmap after its blocks", async () => {
  const size = 12 * 1024 * MIB + 5 * MIB;
  const chunk = 4096 * MIB;
  const runs = [1, 2, 3].map((number) => ({ first: (number * chunk) / 512 - 1000, count: 3000, value: number }));
  const below = [0, 1, 2].flatMap((number) => [
    `write -P ${10 + number} ${number * chunk + chunk - MIB} 1M`,
    `write -P ${20 + number} ${number * chunk + chunk} 2M`,
  ]);
  await vhdxPair(below, runs, { relative_path: "base.vhdx" }, size);
  const disk = await folder.open("child.vhdx", "vhdx");
  for (const number of [1, 2, 3]) {
    const length = 4 * MIB;
    const offset = number * chunk - 2 * MIB;
    const expected = Buffer.alloc(length);
    expected.fill(9 + number, MIB, 2 * MIB).fill(19 + number, 2 * MIB, 4 * MIB);
    expected.fill(number, 2 * MIB - 1000 * 512, 2 * MIB + 2000 * 512);
    expect((await libvhdi("child.vhdx", "base.vhdx", { offset, length })).equals(expected)).toBe(true);
    expect((await disk.read(offset, length, guestRequest())).equals(expected)).toBe(true);
  }
});
