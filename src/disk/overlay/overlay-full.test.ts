import { expect, test } from "@jest/globals";
import { ManualClock } from "../../base/testing/manual-clock.ts";
import { DiskError } from "../errors.ts";
import { memorySource } from "../testing/memory-source.ts";
import { SimulatedDirectory } from "../testing/simulated-directory.ts";
import { ClaimRoom } from "./claim-room.ts";
import type { OverlayOptions } from "./open-overlay.ts";
import { Overlay } from "./overlay.ts";

const PAGE = 4096;
const SECTOR = 512;
const SIZE = 64 * PAGE;

interface Opened {
  readonly overlay: Overlay;
  readonly clock: ManualClock;
}

async function open(directory: SimulatedDirectory, change: Partial<OverlayOptions> = {}): Promise<Opened> {
  const clock = new ManualClock();
  const base = memorySource(Buffer.alloc(SIZE, 7));
  const options = { directory: directory.mount(), disk: "root", base, epoch: 1, clock, journalBytes: 2048 };
  return { overlay: await Overlay.open({ ...options, ...change }), clock };
}

/** Whether it has come about yet. */
function watch(work: Promise<unknown>): () => boolean {
  let isDone = false;
  work.then(
    () => {
      isDone = true;
    },
    () => undefined,
  );
  return () => isDone;
}

test("writes wait on a full claim, it is said, what needs no space goes on, and they go on when it has grown", async () => {
  const directory = new SimulatedDirectory();
  const { overlay, clock } = await open(directory);
  directory.limit = 0;
  const write = overlay.write(0, Buffer.alloc(PAGE, 9), { durable: true });
  const isDone = watch(write);
  await clock.advance(5000);
  expect(overlay.full).toBe(true);
  expect(isDone()).toBe(false);
  await overlay.writeZeroes(PAGE, PAGE, { durable: true });
  expect((await overlay.read(0, 1, "guest"))[0]).toBe(7);
  directory.limit = undefined;
  await clock.advance(1000);
  await write;
  expect(overlay.full).toBe(false);
  expect((await overlay.read(0, 2, "guest")).toString("hex")).toBe("0909");
});

test("a checkpoint that finds no space keeps no files open, and what waits for it is durable afterwards", async () => {
  const directory = new SimulatedDirectory();
  const { overlay, clock } = await open(directory);
  const before = directory.openFiles;
  // The pages have their space: only the checkpoint has none.
  for (let page = 0; page < 3; page++) await overlay.write(page * PAGE, Buffer.alloc(PAGE, 1), { durable: true });
  directory.limit = 0;
  const flushes: Promise<void>[] = [];
  for (let page = 3; page < 12; page++) flushes.push(overlay.writeZeroes(page * PAGE, PAGE, { durable: true }));
  for (let page = 12; page < 20; page++) {
    await clock.advance(100);
    flushes.push(overlay.writeZeroes(page * PAGE, PAGE, { durable: true }));
  }
  await clock.advance(60_000);
  expect(overlay.full).toBe(true);
  expect(directory.openFiles).toBeLessThanOrEqual(before);
  directory.limit = undefined;
  await clock.advance(1000);
  await Promise.all(flushes);
  directory.powerLoss();
  const again = await open(directory);
  expect((await again.overlay.read(3 * PAGE, 17 * PAGE, "guest")).every((byte) => byte === 0)).toBe(true);
});

test("an agent that starts on a full claim serves, says that it is full, and takes writes once the claim has grown", async () => {
  const directory = new SimulatedDirectory();
  const first = await open(directory);
  await first.overlay.write(0, Buffer.alloc(PAGE, 1), { durable: true });
  directory.processDeath();
  directory.limit = 0;
  const { overlay, clock } = await open(directory);
  expect(overlay.full).toBe(true);
  expect((await overlay.read(0, 1, "guest"))[0]).toBe(1);
  const isDone = watch(overlay.write(0, Buffer.alloc(PAGE, 2), { durable: true }));
  await clock.advance(5000);
  directory.limit = undefined;
  await clock.advance(1000);
  await overlay.flush();
  expect(isDone()).toBe(true);
  expect(overlay.full).toBe(false);
});

test("it is full until there is space, even where nobody writes", async () => {
  const directory = new SimulatedDirectory();
  await (await open(directory)).overlay.close();
  directory.limit = 0;
  const { overlay, clock } = await open(directory);
  directory.limit = undefined;
  await clock.advance(1000);
  expect(overlay.full).toBe(false);
});

test("sealing does not wait for space either: what waits for it is refused, and was never acknowledged", async () => {
  const directory = new SimulatedDirectory();
  const { overlay, clock } = await open(directory);
  directory.limit = 0;
  const write = overlay.write(0, Buffer.alloc(PAGE, 9), { durable: true });
  const refused = expect(write).rejects.toMatchObject({ code: "DISK_SEALED" });
  await clock.advance(2000);
  await overlay.seal();
  await refused;
  expect(overlay.full).toBe(false);
  expect((await overlay.read(0, 1, "guest"))[0]).toBe(7);
  directory.limit = undefined;
  await overlay.unseal();
  await overlay.write(0, Buffer.alloc(PAGE, 8), { durable: true });
  expect((await overlay.read(0, 1, "guest"))[0]).toBe(8);
});

test("sealing refuses what waits behind a write that waits, too, and what looks for space just then", async () => {
  const directory = new SimulatedDirectory();
  const { overlay, clock } = await open(directory);
  directory.limit = 0;
  const writes = [0, 0, 0, PAGE].map((at) => overlay.write(at, Buffer.alloc(PAGE, 9), { durable: true }));
  const refused = writes.map((write) => expect(write).rejects.toMatchObject({ code: "DISK_SEALED" }));
  await clock.advance(2000);
  refused.push(
    expect(overlay.write(9 * PAGE, Buffer.alloc(PAGE, 9), { durable: true })).rejects.toMatchObject({
      code: "DISK_SEALED",
    }),
  );
  await overlay.seal();
  await Promise.all(refused);
  directory.limit = undefined;
  await overlay.unseal();
  await overlay.write(0, Buffer.alloc(PAGE, 8), { durable: true });
});

/** A page of a generation, and a write over it of which that much is there when it finds no space for the page behind. */
async function partInPlace(directory: SimulatedDirectory): Promise<Opened & { readonly id: number }> {
  const opened = await open(directory, { journalBytes: 65_536 });
  const { overlay, clock } = opened;
  await overlay.write(PAGE, Buffer.alloc(PAGE, 1), { durable: true });
  const { id } = await overlay.freezeGeneration();
  directory.limit = 0;
  overlay.write(PAGE, Buffer.alloc(2 * PAGE, 2), { durable: true }).catch(() => undefined);
  await clock.advance(2000);
  expect(overlay.full).toBe(true);
  expect((await overlay.read(PAGE, SECTOR, "relocation"))[0]).toBe(2);
  expect(overlay.dirtyBytes).toBe(0);
  return { ...opened, id };
}

test("a generation is dropped beside a write that waits, and what was seen of that is marked: a power loss takes it back", async () => {
  const directory = new SimulatedDirectory(() => false);
  const { overlay, id } = await partInPlace(directory);
  await overlay.dropGeneration(id);
  directory.powerLoss();
  directory.limit = undefined;
  const again = (await open(directory)).overlay;
  expect((await again.freezeGeneration()).id).toBe(id + 1);
  expect([...again.frozenExtents(0, SIZE)]).toEqual([{ offset: PAGE, length: PAGE }]);
});

test("each generation that comes while it waits has its page", async () => {
  const { overlay, id } = await partInPlace(new SimulatedDirectory());
  for (let drop = id; drop < id + 3; drop++) {
    await overlay.dropGeneration(drop);
    expect(await overlay.freezeGeneration()).toEqual({ id: drop + 1, bytes: PAGE, final: false });
  }
});

test("how far a copy is can be told while a write waits", async () => {
  const { overlay } = await partInPlace(new SimulatedDirectory());
  await overlay.settle();
  expect(overlay.full).toBe(true);
});

test("bytes that are kept are not given to data, whichever disk asks; what is there, zeros and marks do not ask", async () => {
  const directory = new SimulatedDirectory();
  const room = new ClaimRoom(directory);
  const { overlay, clock } = await open(directory, { room });
  await overlay.write(0, Buffer.alloc(PAGE, 1), { durable: true });
  room.keep(Number.MAX_SAFE_INTEGER);
  const isDone = watch(overlay.write(PAGE, Buffer.alloc(PAGE, 2), { durable: true }));
  await clock.advance(3000);
  expect(isDone()).toBe(false);
  expect([overlay.full, overlay.stuck]).toEqual([true, false]);
  await overlay.write(512, Buffer.alloc(1024, 3), { durable: true });
  await overlay.writeZeroes(3 * PAGE, 3 * PAGE, { durable: true });
  await overlay.freezeGeneration();
  expect(isDone()).toBe(false);
});

test("a claim on which not even a checkpoint finds space is said to be stuck", async () => {
  const directory = new SimulatedDirectory();
  await open(directory);
  directory.processDeath();
  directory.limit = 0;
  const { overlay, clock } = await open(directory);
  expect(overlay.stuck).toBe(true);
  directory.limit = undefined;
  await clock.advance(1000);
  expect(overlay.stuck).toBe(false);
});

test("a journal that a crash left of an earlier checkpoint does not take the room of the next one", async () => {
  const directory = new SimulatedDirectory();
  await (await open(directory)).overlay.close();
  const left = await directory.open("root.journal.77");
  await left.write(Buffer.alloc(2048), 0);
  await left.close();
  const used = directory.names().reduce((sum, name) => sum + directory.file(name).allocated, 0);
  directory.limit = used + SECTOR;
  const { overlay } = await open(directory);
  expect(overlay.stuck).toBe(false);
  expect(directory.names().filter((name) => name.includes("journal"))).toEqual(["root.journal.2"]);
});

test("closing does not wait for space", async () => {
  const directory = new SimulatedDirectory();
  const { overlay, clock } = await open(directory);
  directory.limit = 0;
  const write = overlay.write(0, Buffer.alloc(PAGE, 9), { durable: true });
  write.catch(() => undefined);
  await clock.advance(2000);
  await overlay.close();
  await expect(write).rejects.toMatchObject({ code: "DISK_CLOSED" });
  expect(directory.openFiles).toBe(0);
});

test("a sync that fails for want of space is final: what it should have written may be gone", async () => {
  const directory = new SimulatedDirectory();
  const { overlay } = await open(directory);
  await overlay.write(0, Buffer.alloc(PAGE, 9), { durable: false });
  directory.fault = { kind: "ENOSPC", after: 0, times: 1 };
  await expect(overlay.flush()).rejects.toMatchObject({ code: "OVERLAY_FAILED" });
  await expect(overlay.flush()).rejects.toMatchObject({ code: "OVERLAY_FAILED" });
});

test("what a write left in place before it was given up is durable with the next flush: it has been read by then", async () => {
  let coin = false;
  const directory = new SimulatedDirectory(() => coin);
  const clock = new ManualClock();
  const options = { disk: "root", base: memorySource(Buffer.alloc(8 * 4096)), epoch: 1, clock };
  const overlay = await Overlay.open({ ...options, directory: directory.mount() });
  await overlay.write(0, Buffer.alloc(1024, 1), { durable: true });
  // The first of two sectors is written over, and then there is no space.
  coin = true;
  directory.fault = { kind: "ENOSPC", after: 0, times: 1 };
  const patience = new AbortController();
  const write = overlay.write(0, Buffer.alloc(1024, 2), { durable: false, signal: patience.signal });
  await new Promise(setImmediate);
  patience.abort(new Error("given up"));
  await expect(write).rejects.toThrow("given up");
  directory.fault = undefined;
  const seen = Buffer.from(await overlay.read(0, 1024, "guest"));
  expect([seen[0], seen[512]]).toEqual([2, 1]);
  await overlay.flush();
  coin = false;
  directory.powerLoss();
  const again = await Overlay.open({ ...options, directory: directory.mount() });
  expect((await again.read(0, 1024, "guest")).equals(seen)).toBe(true);
});

test("nor does it wait for what waits for the same pages: it would only wait for space in the other's place", async () => {
  const directory = new SimulatedDirectory();
  const { overlay, clock } = await open(directory);
  directory.limit = 0;
  const refused = [1, 2, 3].map((fill) =>
    expect(overlay.write(0, Buffer.alloc(PAGE, fill), { durable: true })).rejects.toMatchObject({
      code: "DISK_SEALED",
    }),
  );
  await clock.advance(2000);
  const isSealed = watch(overlay.seal());
  await clock.advance(0);
  expect(isSealed()).toBe(true);
  await Promise.all(refused);
});

test("writes that are ended give up waiting for space, those behind them too, and later ones are taken", async () => {
  const directory = new SimulatedDirectory();
  const { overlay, clock } = await open(directory);
  directory.limit = 0;
  const error = new DiskError("WRITER_FENCED", "somebody else writes");
  const refused = [1, 2, 3].map((fill) =>
    expect(overlay.write(0, Buffer.alloc(PAGE, fill), { durable: true })).rejects.toBe(error),
  );
  await clock.advance(2000);
  const ending = overlay.endWrites(error);
  await expect(overlay.write(PAGE, Buffer.alloc(PAGE, 4), { durable: true })).rejects.toBe(error);
  await ending;
  await Promise.all(refused);
  directory.limit = undefined;
  await overlay.write(2 * PAGE, Buffer.alloc(PAGE, 5), { durable: true });
  await clock.advance(5000);
  const firsts = await Promise.all([0, 1, 2].map((page) => overlay.read(page * PAGE, 1, "guest")));
  expect(firsts.map(([first]) => first)).toEqual([7, 7, 5]);
});

/** What waits for the repository, which never answers, and what waits behind it. */
async function waitForRepository(change: Partial<OverlayOptions> = {}): Promise<{
  readonly overlay: Overlay;
  readonly writes: readonly Promise<void>[];
  readonly answer: () => void;
}> {
  const base = memorySource(Buffer.alloc(SIZE, 7));
  let answer: () => void = () => undefined;
  const answered = new Promise<void>((resolve) => {
    answer = resolve;
  });
  const slow = { ...base, read: (...args: Parameters<typeof base.read>) => answered.then(() => base.read(...args)) };
  const { overlay } = await open(new SimulatedDirectory(), { base: slow, ...change });
  // Part of a sector, what waits behind it, and zeros that begin and end within sectors.
  const writes = [
    overlay.write(PAGE + 1, Buffer.alloc(1, 1), { durable: true }),
    overlay.write(PAGE, Buffer.alloc(2 * PAGE, 2), { durable: true }),
    overlay.writeZeroes(5 * PAGE + 1, PAGE, { durable: true }),
  ];
  for (const write of writes) write.catch(() => undefined);
  await new Promise(setImmediate);
  return { overlay, writes, answer };
}

test("sealing does not wait for the repository: what waits for it is refused, and never takes effect", async () => {
  const { overlay, writes, answer } = await waitForRepository();
  await overlay.seal();
  for (const write of writes) await expect(write).rejects.toMatchObject({ code: "DISK_SEALED" });
  const { bytes, final } = await overlay.freezeGeneration();
  expect([bytes, final]).toEqual([0, true]);
  answer();
  await new Promise(setImmediate);
  expect((await overlay.read(0, SIZE, "guest")).every((byte) => byte === 7)).toBe(true);
  await overlay.unseal();
  await overlay.write(PAGE + 1, Buffer.alloc(1, 3), { durable: true });
  expect((await overlay.read(PAGE, 3, "guest")).toString("hex")).toBe("070307");
});

test("nor does another writer wait for it, also where a page has to become whole", async () => {
  const { overlay, writes, answer } = await waitForRepository({ partialLimit: 0 });
  const sectors = overlay.write(9 * PAGE, Buffer.alloc(SECTOR, 4), { durable: true });
  sectors.catch(() => undefined);
  await new Promise(setImmediate);
  const error = new DiskError("WRITER_FENCED", "somebody else writes");
  await overlay.endWrites(error);
  for (const write of [...writes, sectors]) await expect(write).rejects.toBe(error);
  await overlay.write(PAGE, Buffer.alloc(PAGE, 5), { durable: true });
  answer();
  await new Promise(setImmediate);
  expect((await overlay.read(PAGE, PAGE, "guest")).every((byte) => byte === 5)).toBe(true);
});

test("nor does closing", async () => {
  const { overlay, writes } = await waitForRepository();
  await overlay.close();
  for (const write of writes) await expect(write).rejects.toMatchObject({ code: "DISK_CLOSED" });
});
