import { expect, test } from "@jest/globals";
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
