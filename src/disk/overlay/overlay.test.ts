import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { systemClock } from "../../base/clock.ts";
import { deferred } from "../../base/deferred.ts";
import { ManualClock } from "../../base/testing/manual-clock.ts";
import { memorySource } from "../testing/memory-source.ts";
import { SimulatedDirectory } from "../testing/simulated-directory.ts";
import { type FileStep, stepByStep } from "./file-steps.ts";
import { overlayDirectory } from "./files.ts";
import { Overlay } from "./overlay.ts";

const PAGE = 4096;
const SECTOR = 512;
/** Twelve pages and a bit, so that the last page is cut off. */
const SIZE = 12 * PAGE + 3 * SECTOR;

const base = Buffer.from(Uint8Array.from({ length: SIZE }, (_, index) => (index * 7 + (index >> 9)) & 0xff));

function open(directory: SimulatedDirectory, epoch = 1): Promise<Overlay> {
  return Overlay.open({
    directory,
    disk: "root",
    base: memorySource(base),
    epoch,
    clock: new ManualClock(),
    journalBytes: 4096,
  });
}

test("a write that was acknowledged as durable is dirty in exactly the generation after the freeze", async () => {
  const overlay = await open(new SimulatedDirectory());
  await overlay.write(0, Buffer.alloc(PAGE, 1), { durable: true });
  const first = await overlay.freezeGeneration();
  expect(first).toEqual({ id: 1, bytes: PAGE, final: false });
  await overlay.write(PAGE, Buffer.alloc(PAGE, 2), { durable: true });
  expect(await overlay.freezeGeneration()).toEqual(first);
  expect([...overlay.frozenExtents(0, SIZE)]).toEqual([{ offset: 0, length: PAGE }]);
  await overlay.dropGeneration(1);
  await overlay.seal();
  expect(await overlay.freezeGeneration()).toEqual({ id: 2, bytes: PAGE, final: true });
  await expect(overlay.dropGeneration(3)).rejects.toMatchObject({ code: "STALE_GENERATION" });
  expect([...overlay.frozenExtents(PAGE + 100, 50)]).toEqual([{ offset: PAGE + 100, length: 50 }]);
});

test("an older epoch, and another disk's overlay, are refused", async () => {
  const directory = new SimulatedDirectory();
  await (await open(directory, 5)).close();
  await expect(open(directory, 4)).rejects.toMatchObject({ code: "STALE_EPOCH" });
  const other = {
    directory,
    disk: "root",
    base: memorySource(Buffer.alloc(SIZE + PAGE)),
    epoch: 9,
    clock: new ManualClock(),
  };
  await expect(Overlay.open(other)).rejects.toMatchObject({ code: "OVERLAY_MISMATCH" });
});

test("a failed sync is final until the overlay is opened anew, and said once", async () => {
  const directory = new SimulatedDirectory();
  const failures: unknown[] = [];
  const overlay = await Overlay.open({
    ...{ directory, disk: "root", base: memorySource(base), epoch: 1, clock: new ManualClock() },
    onFailed: (error) => failures.push(error),
  });
  await overlay.write(0, Buffer.alloc(PAGE, 1), { durable: true });
  directory.failSyncs = true;
  await expect(overlay.write(0, Buffer.alloc(PAGE, 2), { durable: true })).rejects.toMatchObject({
    code: "OVERLAY_FAILED",
  });
  directory.failSyncs = false;
  await expect(overlay.flush()).rejects.toMatchObject({ code: "OVERLAY_FAILED" });
  await expect(overlay.write(0, Buffer.alloc(PAGE, 3), { durable: false })).rejects.toMatchObject({
    code: "OVERLAY_FAILED",
  });
  expect(failures).toMatchObject([{ code: "OVERLAY_FAILED" }]);
  directory.processDeath();
  const again = await open(directory);
  await again.write(0, Buffer.alloc(PAGE, 4), { durable: true });
  expect((await again.read(0, 1, "guest"))[0]).toBe(4);
});

test("a last generation is not the last any more once the seal was taken back", async () => {
  const overlay = await open(new SimulatedDirectory());
  await overlay.write(0, Buffer.alloc(PAGE, 1), { durable: true });
  await overlay.seal();
  expect(await overlay.freezeGeneration()).toMatchObject({ id: 1, final: true });
  await overlay.unseal();
  await overlay.write(PAGE, Buffer.alloc(PAGE, 2), { durable: true });
  await overlay.seal();
  // A Job that took it for the last one would leave the second write behind.
  expect(await overlay.freezeGeneration()).toMatchObject({ id: 1, final: false });
  await overlay.dropGeneration(1);
  expect(await overlay.freezeGeneration()).toEqual({ id: 2, bytes: PAGE, final: true });
});

test("bytes that a killed process wrote over copied ones are marked, whether it said so or not", async () => {
  const directory = new SimulatedDirectory();
  const overlay = await open(directory);
  await overlay.write(0, Buffer.alloc(PAGE, 1), { durable: true });
  await overlay.dropGeneration((await overlay.freezeGeneration()).id);
  // Nobody was told that it is durable, but the page cache has it.
  await overlay.write(0, Buffer.alloc(PAGE, 2), { durable: false });
  directory.processDeath();
  const again = await open(directory);
  expect((await again.read(0, 1, "guest"))[0]).toBe(2);
  expect(again.dirtyBytes).toBe(PAGE);
});

test("a generation goes only when what its readers have seen is durable", async () => {
  const directory = new SimulatedDirectory();
  const overlay = await open(directory);
  await overlay.write(0, Buffer.alloc(PAGE, 1), { durable: true });
  const { id } = await overlay.freezeGeneration();
  await overlay.write(0, Buffer.alloc(PAGE, 2), { durable: false });
  expect((await overlay.read(0, 1, "relocation"))[0]).toBe(2);
  await overlay.dropGeneration(id);
  directory.powerLoss();
  const again = await open(directory);
  expect((await again.read(0, 1, "guest"))[0]).toBe(2);
  expect(again.dirtyBytes).toBe(PAGE);
});

test("a write that comes while the disk is being sealed is told that it is sealed", async () => {
  const overlay = await open(new SimulatedDirectory());
  const sealed = overlay.seal();
  await expect(overlay.write(0, Buffer.alloc(PAGE), { durable: true })).rejects.toMatchObject({ code: "DISK_SEALED" });
  await sealed;
});

test("concurrent writes to common pages never mix within a sector, and all are readable", async () => {
  const overlay = await open(new SimulatedDirectory());
  const writes = Array.from({ length: 60 }, (_, index) =>
    overlay.write((index % 7) * 700, Buffer.alloc(1500, index + 1), { durable: index % 3 === 0 }),
  );
  await Promise.all(writes);
  // The last one to each place was queued last: requests to common pages are served in their order.
  const expected = Buffer.from(base);
  for (let index = 0; index < 60; index++) expected.fill(index + 1, (index % 7) * 700, (index % 7) * 700 + 1500);
  expect((await overlay.read(0, SIZE, "guest")).equals(expected)).toBe(true);
});

test("pages of a few sectors are bounded in number: beyond that the rest of the page is fetched", async () => {
  const directory = new SimulatedDirectory();
  const options = { directory, disk: "root", base: memorySource(base), epoch: 1, clock: new ManualClock() };
  const overlay = await Overlay.open({ ...options, partialLimit: 2 });
  for (const page of [0, 1, 2, 3, 0])
    await overlay.write(page * PAGE + SECTOR, Buffer.alloc(SECTOR, 9), { durable: true });
  const expected = Buffer.from(base);
  for (const page of [0, 1, 2, 3]) expected.fill(9, page * PAGE + SECTOR, page * PAGE + 2 * SECTOR);
  expect((await overlay.read(0, SIZE, "guest")).equals(expected)).toBe(true);
  await overlay.close();
  // What was fetched is held: it needs no base any more.
  const other = await Overlay.open({ ...options, base: memorySource(Buffer.alloc(SIZE)) });
  expect((await other.read(2 * PAGE, 2 * PAGE, "guest")).equals(expected.subarray(2 * PAGE, 4 * PAGE))).toBe(true);
  expect((await other.read(0, SECTOR, "guest")).equals(Buffer.alloc(SECTOR))).toBe(true);
});

test("extents tell zeros, and reads beyond the end are refused", async () => {
  const overlay = await open(new SimulatedDirectory());
  await overlay.writeZeroes(PAGE, 2 * PAGE, { durable: false });
  await overlay.write(2 * PAGE, Buffer.alloc(SECTOR, 1), { durable: false });
  expect(overlay.extents(0, SIZE)).toEqual([
    { offset: 0, length: PAGE, zero: false },
    { offset: PAGE, length: PAGE, zero: true },
    { offset: 2 * PAGE, length: SIZE - 2 * PAGE, zero: false },
  ]);
  await expect(overlay.read(SIZE - 1, 2, "guest")).rejects.toMatchObject({ code: "OUT_OF_RANGE" });
  await expect(overlay.write(SIZE, Buffer.alloc(1), { durable: true })).rejects.toMatchObject({ code: "OUT_OF_RANGE" });
});

test("a killed process loses nothing that it had acknowledged", async () => {
  const path = await mkdtemp(join(tmpdir(), "overlay-"));
  try {
    const size = 4 * 1024 * 1024;
    const script = `
      const { Overlay } = await import(${JSON.stringify(new URL("./overlay.ts", import.meta.url).href)});
      const { overlayDirectory } = await import(${JSON.stringify(new URL("./files.ts", import.meta.url).href)});
      const { systemClock } = await import(${JSON.stringify(new URL("../../base/clock.ts", import.meta.url).href)});
      const base = { size: ${size}, read: async (o, l) => Buffer.alloc(l), extents: () => [] };
      const overlay = await Overlay.open({ directory: overlayDirectory(${JSON.stringify(path)}), disk: "root", base, epoch: 1, clock: systemClock, journalBytes: 65536 });
      let n = 0;
      const next = async () => { for (;;) { const i = n++; const b = Buffer.alloc(512); b.writeUInt32LE(i + 1); await overlay.write((i * 512 * 3) % ${size}, b, { durable: true }); process.stdout.write((i + 1) + "\\n"); } };
      await Promise.all([next(), next(), next(), next()]);`;
    const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
      stdio: ["ignore", "pipe", "inherit"],
      env: { ...process.env, NODE_OPTIONS: "" },
    });
    let said = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      said += text;
      if (said.split("\n").length > 400) child.kill("SIGKILL");
    });
    await new Promise((resolve) => child.once("close", resolve));
    const acknowledged = said.split("\n").slice(0, -1).map(Number);
    expect(acknowledged.length).toBeGreaterThan(300);
    const zeros = memorySource(Buffer.alloc(size));
    const overlay = await Overlay.open({
      directory: overlayDirectory(path),
      disk: "root",
      base: zeros,
      epoch: 1,
      clock: systemClock,
    });
    for (const number of acknowledged) {
      const found = (await overlay.read(((number - 1) * 512 * 3) % size, 4, "guest")).readUInt32LE(0);
      expect(found).toBe(number);
    }
    await overlay.close();
  } finally {
    await rm(path, { recursive: true, force: true });
  }
});

test("a write that was given up before anything was written marks nothing, so the next one over copied bytes does", async () => {
  const directory = new SimulatedDirectory();
  const overlay = await open(directory);
  await overlay.write(PAGE, Buffer.alloc(PAGE, 1), { durable: true });
  const { id } = await overlay.freezeGeneration();
  await overlay.dropGeneration(id);
  const givenUp = { durable: false, signal: AbortSignal.abort(new Error("given up")) };
  await expect(overlay.write(PAGE, Buffer.alloc(PAGE, 2), givenUp)).rejects.toThrow("given up");
  await overlay.write(PAGE, Buffer.alloc(PAGE, 3), { durable: false });
  directory.processDeath();

  const later = await open(directory);
  expect(await later.read(PAGE, PAGE, "guest")).toEqual(Buffer.alloc(PAGE, 3));
  await later.freezeGeneration();
  expect([...later.frozenExtents(0, SIZE)]).toEqual([{ offset: PAGE, length: PAGE }]);
});

test("zeros that are given up while their mark is made durable never take effect", async () => {
  const directory = new SimulatedDirectory();
  const overlay = await open(directory);
  await overlay.write(0, Buffer.alloc(PAGE, 1), { durable: true });
  const { id } = await overlay.freezeGeneration();
  await overlay.dropGeneration(id);
  const late = new AbortController();
  const given = overlay.write(0, Buffer.alloc(PAGE), { durable: true, signal: late.signal });
  while (overlay.dirtyBytes === 0) await Promise.resolve();
  late.abort(new Error("too late"));
  await expect(given).rejects.toThrow("too late");
  expect(await overlay.read(0, PAGE, "guest")).toEqual(Buffer.alloc(PAGE, 1));
  await overlay.close();
});

test("a generation that is frozen while a write is on its way through does not take the write's mark along", async () => {
  const simulated = new SimulatedDirectory();
  const held = deferred();
  const isOnClaim = deferred();
  const directory = simulated.mount();
  const inOrder = async (steps: readonly FileStep[]): Promise<void> => {
    await stepByStep(steps);
    isOnClaim.resolve();
    await held.promise;
  };
  const options = { disk: "root", base: memorySource(base), epoch: 1, clock: new ManualClock() };
  const overlay = await Overlay.open({ ...options, directory: { ...directory, inOrder } });
  const written = overlay.write(0, Buffer.alloc(PAGE, 1), { durable: true });
  await isOnClaim.promise;
  // Bytes and record are on the claim; nobody can read them yet, and so the generation does not have them.
  const frozen = overlay.freezeGeneration();
  expect(await overlay.read(0, PAGE, "guest")).toEqual(base.subarray(0, PAGE));
  held.resolve();
  await written;
  expect((await frozen).bytes).toBe(0);
  await overlay.dropGeneration(1);
  simulated.powerLoss();

  const later = await open(simulated);
  expect(await later.read(0, PAGE, "guest")).toEqual(Buffer.alloc(PAGE, 1));
  expect(later.dirtyBytes).toBe(PAGE);
});
