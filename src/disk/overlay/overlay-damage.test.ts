import { expect, test } from "@jest/globals";
import { crc32 } from "../../base/crc32.ts";
import { ManualClock } from "../../base/testing/manual-clock.ts";
import { memorySource } from "../testing/memory-source.ts";
import { SimulatedDirectory } from "../testing/simulated-directory.ts";
import { Overlay } from "./overlay.ts";

/* What no crash leaves is never taken for an overlay that lacks some writes. */

const PAGE = 4096;
const SIZE = 8 * PAGE;

function open(directory: SimulatedDirectory): Promise<Overlay> {
  const base = memorySource(Buffer.alloc(SIZE, 7));
  return Overlay.open({ directory: directory.mount(), disk: "root", base, epoch: 1, clock: new ManualClock() });
}

/** Three batches in the journal, and then the process died. */
async function written(): Promise<SimulatedDirectory> {
  const directory = new SimulatedDirectory();
  const overlay = await open(directory);
  for (const page of [1, 2, 3]) await overlay.write(page * PAGE, Buffer.alloc(PAGE, page), { durable: true });
  directory.processDeath();
  return directory;
}

test.each(["root.map", "root.data", "root.journal.1"])("without %s it does not open", async (name) => {
  const directory = await written();
  directory.lose(name);
  await expect(open(directory)).rejects.toMatchObject({ code: "OVERLAY_CORRUPT" });
});

test("a data file that was cut off does not open", async () => {
  const directory = await written();
  directory.file("root.data").truncate(SIZE - PAGE);
  await expect(open(directory)).rejects.toMatchObject({ code: "OVERLAY_CORRUPT" });
});

test.each([0, 512])(
  "a flipped bit in the batch at byte %i, with others behind it, is no end of the journal",
  async (at) => {
    const directory = await written();
    directory.file("root.journal.1").flip(at + 24);
    await expect(open(directory)).rejects.toMatchObject({ code: "OVERLAY_CORRUPT" });
  },
);

test("a last batch that is broken was not acknowledged: the others count", async () => {
  const directory = await written();
  directory.file("root.journal.1").flip(1024 + 24);
  const overlay = await open(directory);
  const first = await Promise.all([1, 2, 3].map(async (page) => (await overlay.read(page * PAGE, 1, "guest"))[0]));
  expect(first).toEqual([1, 2, 7]);
});

test("a flipped bit in the map does not open", async () => {
  const directory = await written();
  directory.file("root.map").flip(70);
  await expect(open(directory)).rejects.toMatchObject({ code: "OVERLAY_CORRUPT" });
});

/** Changes bytes of a file that ends with its checksum, as whoever knows the format would. */
function rewrite(directory: SimulatedDirectory, name: string, change: (content: Buffer) => void): Buffer {
  const file = directory.file(name);
  const content = Buffer.alloc(file.size);
  file.read(content, 0);
  change(content);
  content.writeUInt32LE(crc32(content.subarray(0, -4)), content.length - 4);
  file.write(content, 0, () => true);
  file.sync();
  return content;
}

test.each<[string, (map: Buffer) => void]>([
  ["of a later format", (map) => map.write("02", 6, "latin1")],
  ["with a flag that is not known", (map) => map.writeUInt32LE(4, 32)],
  ["with a field that is not known", (map) => map.writeUInt32LE(1, 60)],
])("a map %s is no damaged one: it is refused by its version, and left as it is", async (_what, change) => {
  const directory = await written();
  const map = rewrite(directory, "root.map", change);
  const names = directory.names();
  await expect(open(directory)).rejects.toMatchObject({
    code: "OVERLAY_VERSION",
    hint: expect.stringContaining("image of that version"),
  });
  const left = Buffer.alloc(directory.file("root.map").size);
  directory.file("root.map").read(left, 0);
  expect(left.equals(map)).toBe(true);
  expect(directory.names()).toEqual(names);
});

test("a record of a kind that is not known was acknowledged by a later version: the overlay is refused, and left as it is", async () => {
  const directory = await written();
  const journal = directory.file("root.journal.1");
  const batch = Buffer.alloc(512);
  journal.read(batch, 1024);
  batch.writeUInt32LE(99, 20);
  batch.writeUInt32LE(crc32(batch.subarray(20), crc32(batch.subarray(0, 16))), 16);
  journal.write(batch, 1024, () => true);
  journal.sync();
  const names = directory.names();
  await expect(open(directory)).rejects.toMatchObject({ code: "OVERLAY_VERSION" });
  expect(directory.names()).toEqual(names);
});
