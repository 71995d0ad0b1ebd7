import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { systemClock } from "../../base/clock.ts";
import { ManualClock } from "../../base/testing/manual-clock.ts";
import type { Extent } from "../block-device.ts";
import { memorySource } from "../testing/memory-source.ts";
import { PowerLoss, SimulatedDirectory } from "../testing/simulated-directory.ts";
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

type Op =
  | { kind: "write"; offset: number; length: number; fill: number; durable: boolean }
  | { kind: "zero"; offset: number; length: number; durable: boolean }
  | { kind: "flush" | "freeze" | "drop" | "seal" | "unseal" | "reopen" }
  | { kind: "crash"; after: number; power: boolean };

const range = fc
  .tuple(fc.nat(SIZE - 1), fc.oneof(fc.nat(700), fc.nat(3 * PAGE)), fc.constantFrom(1, SECTOR, PAGE))
  .map(([offset, length, unit]) => {
    const start = Math.floor(offset / unit) * unit;
    return { offset: start, length: Math.min(SIZE - start, Math.max(unit, Math.floor(length / unit) * unit)) };
  });

const operation: fc.Arbitrary<Op> = fc.oneof(
  {
    weight: 10,
    arbitrary: fc
      .tuple(range, fc.integer({ min: 1, max: 255 }), fc.boolean())
      .map(([r, fill, durable]) => ({ kind: "write" as const, ...r, fill, durable })),
  },
  {
    weight: 3,
    arbitrary: fc.tuple(range, fc.boolean()).map(([r, durable]) => ({ kind: "zero" as const, ...r, durable })),
  },
  {
    weight: 4,
    arbitrary: fc
      .constantFrom(
        "flush" as const,
        "freeze" as const,
        "drop" as const,
        "seal" as const,
        "unseal" as const,
        "reopen" as const,
      )
      .map((kind) => ({ kind })),
  },
  {
    weight: 4,
    arbitrary: fc.tuple(fc.nat(25), fc.boolean()).map(([after, power]) => ({ kind: "crash" as const, after, power })),
  },
);

/** What may lie on the disk, and what must be known to be dirty. */
class Model {
  /** For each sector, every content that it may have; one once it is durable. */
  readonly sectors: Buffer[][] = [];
  now = Buffer.from(base);
  /** Pages that were certainly changed since the last answered freeze, and before it. */
  current = new Set<number>();
  /** Pages of writes that nobody was told are durable: their marks may go with them. */
  pending = new Set<number>();
  frozen = new Set<number>();
  isFrozen = false;
  sealed = false;

  constructor() {
    for (let at = 0; at < SIZE; at += SECTOR) this.sectors.push([base.subarray(at, at + SECTOR)]);
  }

  change(offset: number, length: number, fill: number): void {
    this.now = Buffer.from(this.now);
    this.now.fill(fill, offset, offset + length);
    for (let s = Math.floor(offset / SECTOR); s * SECTOR < offset + length; s++) {
      this.sectors[s]?.push(this.now.subarray(s * SECTOR, (s + 1) * SECTOR));
    }
  }

  settle(): void {
    for (const page of this.pending) this.current.add(page);
    this.accept(this.now);
  }

  /** The disk was found to hold this; what was not durable is gone or not, and no longer open. */
  accept(content: Buffer): void {
    this.pending.clear();
    this.now = Buffer.from(content);
    for (let s = 0; s < this.sectors.length; s++) this.sectors[s] = [this.now.subarray(s * SECTOR, (s + 1) * SECTOR)];
  }
}

function pagesOf(extents: Iterable<Extent>): Set<number> {
  const pages = new Set<number>();
  for (const { offset, length } of extents) {
    for (let page = Math.floor(offset / PAGE); page * PAGE < offset + length; page++) pages.add(page);
  }
  return pages;
}

test("after any crash at any step, what was acknowledged is there and the rest is old or new, sector by sector", async () => {
  let crashes = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(operation, { minLength: 5, maxLength: 40 }),
      fc.infiniteStream(fc.boolean()),
      async (ops, coins) => {
        const pick = (): boolean => coins.next().value as boolean;
        const directory = new SimulatedDirectory();
        let overlay = await open(directory);
        const model = new Model();

        const run = async (op: Op): Promise<void> => {
          switch (op.kind) {
            case "write":
            case "zero": {
              const { offset, length, durable } = op;
              const fill = op.kind === "zero" ? 0 : op.fill;
              if (model.sealed) {
                await expect(overlay.write(offset, Buffer.alloc(length, fill), { durable })).rejects.toMatchObject({
                  code: "DISK_SEALED",
                });
                return;
              }
              model.change(offset, length, fill);
              if (op.kind === "zero") await overlay.writeZeroes(offset, length, { durable });
              else await overlay.write(offset, Buffer.alloc(length, fill), { durable });
              for (const page of pagesOf([{ offset, length }])) model.pending.add(page);
              if (durable) model.settle();
              return;
            }
            case "flush":
              await overlay.flush();
              model.settle();
              return;
            case "freeze": {
              const frozen = await overlay.freezeGeneration();
              model.settle();
              if (!model.isFrozen) {
                model.frozen = model.current;
                model.current = new Set();
                model.isFrozen = true;
              }
              expect(frozen.bytes % PAGE).toBe(0);
              for (const page of model.frozen) expect(pagesOf(overlay.frozenExtents(0, SIZE)).has(page)).toBe(true);
              return;
            }
            case "drop": {
              const frozen = await overlay.freezeGeneration();
              await overlay.dropGeneration(frozen.id);
              await overlay.dropGeneration(frozen.id);
              model.settle();
              if (!model.isFrozen) model.current = new Set();
              model.frozen = new Set();
              model.isFrozen = false;
              expect([...overlay.frozenExtents(0, SIZE)]).toEqual([]);
              return;
            }
            case "seal":
              await overlay.seal();
              model.sealed = true;
              model.settle();
              return;
            case "unseal":
              await overlay.unseal();
              model.sealed = false;
              model.settle();
              return;
            case "reopen":
              await overlay.close();
              overlay = await open(directory);
              model.settle();
              return;
            case "crash":
              return;
          }
        };

        for (const [index, op] of ops.entries()) {
          if (op.kind !== "crash") {
            await run(op);
            expect((await overlay.read(0, SIZE, "guest")).equals(model.now)).toBe(true);
            continue;
          }
          // Cut the power somewhere in what comes next; a seal or freeze under way may or may not have happened.
          const next = ops[index + 1];
          directory.powerLossAfter = op.after;
          let during: Op | undefined;
          try {
            if (next !== undefined && next.kind !== "crash") await run(next);
            await overlay.flush();
            model.settle();
          } catch (error) {
            const isOurs = error instanceof PowerLoss || (error as { code?: string }).code === "OVERLAY_FAILED";
            if (!isOurs) throw error;
            during = next;
            crashes++;
          }
          if (op.power) directory.afterPowerLoss(pick);
          else directory.afterProcessDeath();
          overlay = await open(directory);
          const left = await overlay.read(0, SIZE, "guest");
          for (const [s, candidates] of model.sectors.entries()) {
            const found = left.subarray(s * SECTOR, (s + 1) * SECTOR);
            if (!candidates.some((candidate) => candidate.equals(found)))
              throw new Error(`sector ${s} is none of what it may be`);
          }
          model.accept(left);
          if (during?.kind === "seal" || during?.kind === "unseal") model.sealed = overlay.sealed;
          expect(overlay.sealed).toBe(model.sealed);
          if (during?.kind === "drop" || during?.kind === "freeze") model.isFrozen = overlay.frozenId !== 0;
          expect(overlay.frozenId !== 0).toBe(model.isFrozen);
          // Whatever was changed for certain and not dropped is in one of the generations.
          if (during?.kind === "drop" || during?.kind === "freeze") {
            const known = pagesOf(overlay.frozenExtents(0, SIZE));
            const all = new Set([...model.current, ...model.frozen]);
            if (during.kind === "freeze") for (const page of all) if (!known.has(page)) model.current.add(page);
            model.frozen = new Set([...all].filter((page) => known.has(page)));
            model.current = new Set(during.kind === "drop" ? [] : [...all].filter((page) => !known.has(page)));
          }
          const frozenNow = pagesOf(overlay.frozenExtents(0, SIZE));
          for (const page of model.frozen) expect(frozenNow.has(page)).toBe(true);
          expect(overlay.dirtyBytes).toBeGreaterThanOrEqual(
            [...model.current].filter((page) => !frozenNow.has(page)).length * PAGE,
          );
        }
        await overlay.close();
      },
    ),
    { numRuns: 1500 },
  );
  expect(crashes).toBeGreaterThan(100);
}, 120_000);

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

test("a failed sync is final until the overlay is opened anew", async () => {
  const directory = new SimulatedDirectory();
  const overlay = await open(directory);
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
  const again = await open(directory);
  await again.write(0, Buffer.alloc(PAGE, 4), { durable: true });
  expect((await again.read(0, 1, "guest"))[0]).toBe(4);
});

test("a full claim makes writes wait, says so, and they go on when there is space", async () => {
  const directory = new SimulatedDirectory();
  const clock = new ManualClock();
  const overlay = await Overlay.open({ directory, disk: "root", base: memorySource(base), epoch: 1, clock });
  directory.space = 0;
  let done = false;
  const write = overlay.write(0, Buffer.alloc(PAGE, 9), { durable: true }).then(() => {
    done = true;
  });
  await clock.advance(5000);
  expect(overlay.full).toBe(true);
  expect(done).toBe(false);
  await overlay.writeZeroes(PAGE, PAGE, { durable: true }); // needs no space
  directory.space = 10 * PAGE;
  await clock.advance(1000);
  await write;
  expect(overlay.full).toBe(false);
  expect((await overlay.read(0, 2, "guest")).toString("hex")).toBe("0909");
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
