import { afterAll, beforeAll, expect, test } from "@jest/globals";
import fc from "fast-check";
import { PatchedFile } from "./patched-file.ts";
import { expectContent, guestRequest, IMAGE_RUNS, ImageFolder, MemoryFile } from "./testing/image-folder.ts";
import { type LogWrite, withLog } from "./testing/vhdx-log-writer.ts";

const MIB = 1024 * 1024;
const PAGE = 4096;

let folder: ImageFolder;
let image: Buffer;
/** Where the disk's blocks begin in the file, pages: what lies before is tables. */
let firstPage: number;

beforeAll(async () => {
  folder = await ImageFolder.create();
  await folder.qemuImg("create -q -f vhdx -o subformat=fixed,block_size=1M,log_size=1M disk 4M");
  await folder.qemuIo("disk", "vhdx", ["write -P 200 0 4M"]);
  image = await folder.read("disk");
  firstPage = image.indexOf(Buffer.alloc(PAGE, 200)) / PAGE;
});
afterAll(() => folder.remove());

const write: fc.Arbitrary<LogWrite> = fc.record({
  page: fc.nat(1000),
  value: fc.option(fc.integer({ min: 1, max: 199 }), { nil: undefined }),
  pages: fc.integer({ min: 1, max: 8 }),
});
const entries = fc.array(fc.array(write, { minLength: 1, maxLength: 4 }), { minLength: 1, maxLength: 6 });

/** The disk once all of it is in its place. */
function applied(list: readonly (readonly LogWrite[])[]): Buffer {
  const content = Buffer.alloc(4 * MIB, 200);
  for (const writes of list) {
    // Of one entry, zeros come first: that is how the writer puts them.
    const ordered = [...writes].sort((a, b) => Number(a.value !== undefined) - Number(b.value !== undefined));
    for (const { page, value, pages } of ordered) content.fill(value ?? 0, page * PAGE, (page + pages) * PAGE);
  }
  return content;
}

test("whatever a log holds is replayed as QEMU replays it, wherever in its ring it lies", async () => {
  await fc.assert(
    fc.asyncProperty(entries, fc.oneof(fc.nat(50), fc.nat(255)), async (list, start) => {
      const placed = list.map((writes) => writes.map((one) => ({ ...one, page: firstPage + one.page })));
      await folder.write("logged", withLog(image, placed, start, 0));
      const disk = await folder.open("logged", "vhdx");
      expect(disk.image.files[0]).toBeInstanceOf(PatchedFile);
      await expectContent(disk, applied(list));
      // Where the ring's end lies between the entries, QEMU begins behind it, whatever their tail says.
      if (start > 50) return;
      await folder.run("cp", "logged", "replayed");
      await folder.qemuImg("check -q -r all -f vhdx replayed");
      expect((await folder.converted("replayed", "vhdx")).equals(applied(list))).toBe(true);
    }),
    { numRuns: 4 * IMAGE_RUNS, endOnFailure: true },
  );
});

test("replay begins at the newest entry's tail, and is exact about the order of writes", async () => {
  const put = (page: number, value: number | undefined): LogWrite => ({ page: firstPage + page, value, pages: 2 });
  const list = [[put(0, 1)], [put(1, 2)], [put(2, 3), put(4, undefined)], [put(3, 4)]];
  await folder.write("logged", withLog(image, list, 254, 1));
  const expected = Buffer.alloc(4 * MIB, 200);
  const pages = [200, 2, 3, 4, 4, 0].entries();
  for (const [page, value] of pages) expected.fill(value, page * PAGE, (page + 1) * PAGE);
  await expectContent(await folder.open("logged", "vhdx"), expected);
});

test("an entry that is torn ends the log before it; one that lies is refused", async () => {
  const put = (page: number): LogWrite => ({ page: firstPage + page, value: 7, pages: 1 });
  const logged = withLog(image, [[put(0)], [put(1)]], 0, 0);
  logged[MIB + 2 * PAGE + 100] = 99;
  await folder.write("logged", logged);
  const expected = Buffer.alloc(4 * MIB, 200);
  expected.fill(7, 0, PAGE);
  await expectContent(await folder.open("logged", "vhdx"), expected);

  await folder.write("short", withLog(image, [[put(0)]], 0, 0).subarray(0, image.length - PAGE));
  await expect(folder.open("short", "vhdx")).rejects.toThrow("it is shorter than its log says");
  const endless = withLog(image, [[{ page: firstPage, value: undefined, pages: 70_000 }]], 0, 0);
  await folder.write("endless", endless);
  await expect(folder.open("endless", "vhdx")).rejects.toMatchObject({ code: "IMAGE_UNSUPPORTED" });
});

test("one that writes the same pages again and again is refused before it has taken long", async () => {
  const zeros: LogWrite = { page: firstPage, value: undefined, pages: 60_000 };
  await folder.write("again", withLog(image, [Array.from({ length: 3000 }, () => zeros)], 0, 0));
  const begun = performance.now();
  await expect(folder.open("again", "vhdx")).rejects.toMatchObject({ code: "IMAGE_UNSUPPORTED" });
  expect(performance.now() - begun).toBeLessThan(3000);
});

test("a patched file is as long as it is said to be, and zeros where neither file nor page is", async () => {
  const file = new MemoryFile("/a", Buffer.alloc(6000, 1));
  const patched = new PatchedFile(file, 20_000, PAGE, new Map([[2, Buffer.alloc(PAGE, 2)]]));
  const expected = Buffer.concat([Buffer.alloc(6000, 1), Buffer.alloc(14_000)]);
  expected.fill(2, 2 * PAGE, 3 * PAGE);
  expect((await patched.read(0, 20_000, guestRequest())).equals(expected)).toBe(true);
  expect((await patched.read(8190, 10, guestRequest())).equals(expected.subarray(8190, 8200))).toBe(true);
  expect(patched.extents(5000, 9000)).toEqual([{ offset: 5000, length: 9000, zero: false }]);
  expect(patched.extents(0, 4096)).toEqual([{ offset: 0, length: 4096, zero: false }]);
});
