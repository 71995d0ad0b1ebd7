import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { errorCode } from "../../base/errors.ts";
import { ManualClock } from "../../base/testing/manual-clock.ts";
import { memorySource } from "../testing/memory-source.ts";
import { SimulatedDirectory, WentDown } from "../testing/simulated-directory.ts";
import { ClaimRoom } from "./claim-room.ts";
import type { OverlayDirectory } from "./files.ts";
import { Overlay } from "./overlay.ts";

/*
 * Two disks on a claim of few bytes that never grows, with writes that wait for space, and a copy that is made of each.
 *
 * Covered: claims that hold no data at all up to ones that nearly suffice; writes of whole sectors, over one another and over what is being
 * copied, zeros, writes that are given up; reads of everything that are told as copied, generations, saving the agent's state; the process
 * dies or the power goes at any operation, those of opening included.
 *
 * Proven: nothing but writes ever waits for space; the copy of a disk that was sealed lacks nothing; what was acknowledged as durable is
 * there; what waits at the seal is refused. Not covered: claims that somebody else fills (overlay-full.test.ts).
 */

const PAGE = 4096;
const SECTOR = 512;
const PAGES = 12;
/** The last page is cut off. */
const SIZE = PAGES * PAGE + 3 * SECTOR;
const SECTORS = SIZE / SECTOR;
const JOURNAL = 2048;
/** What the bookkeeping of two disks comes to at most, with two journals each and two maps of one sector, and with two of the state's file. */
const STATE_BYTES = 1024;
const BOOKKEEPING = 2 * (2 * JOURNAL + 2 * SECTOR) + 2 * STATE_BYTES;
const NAMES = ["root", "data"] as const;
const UNTOUCHED = 1;

interface Write {
  readonly first: number;
  readonly sectors: number;
  /** One that no other write of its disk has, or 0. */
  readonly fill: number;
  state: "under way" | "done" | "durable" | "refused";
}

/** What each sector of a disk may hold. Writes of a common page take effect in the order in which they came. */
class Possible {
  #before = new Uint8Array(SECTORS).fill(UNTOUCHED);
  #writes: Write[] = [];

  add(write: Write): void {
    this.#writes.push(write);
  }

  /** Those that are done by now become durable when it is called. */
  flushing(): () => void {
    const done = this.#writes.filter(({ state }) => state === "done");
    return () => {
      for (const write of done) write.state = "durable";
    };
  }

  /** @param sure since which state of a write nothing older can be there */
  check(content: Buffer, sure: readonly Write["state"][]): void {
    for (let sector = 0; sector < SECTORS; sector++) {
      const own = this.#writes.filter(({ first, sectors }) => first <= sector && sector < first + sectors);
      const last = own.findLastIndex(({ state }) => sure.includes(state));
      const allowed = [
        ...(last < 0 ? [this.#before[sector]] : []),
        ...own.slice(Math.max(0, last)).map(({ fill }) => fill),
      ];
      const found = content.subarray(sector * SECTOR, (sector + 1) * SECTOR);
      if (!found.every((byte) => byte === found[0]) || !allowed.includes(found[0])) {
        throw new Error(`sector ${sector} holds ${found[0]}, not ${allowed.join(" or ")}`);
      }
    }
  }

  /** This is what is there, durably. */
  settle(content: Buffer): void {
    this.#before = Uint8Array.from({ length: SECTORS }, (_, sector) => content[sector * SECTOR] ?? 0);
    this.#writes = [];
  }
}

type Step =
  | {
      readonly kind: "write";
      readonly at: number;
      readonly sectors: number;
      readonly zero: boolean;
      readonly durable: boolean;
      readonly givesUp: boolean;
    }
  | { readonly kind: "copy all" | "copy dirty" | "flush" | "save state" };

interface Disk {
  readonly name: string;
  readonly possible: Possible;
  /** What the copying Job has made durable elsewhere. */
  readonly target: Buffer;
  fills: number;
  overlay: Overlay | undefined;
  writes: Promise<void>[];
}

/** A machine with two disks, a relocation and what happens to them. */
class Run {
  readonly #directory: SimulatedDirectory;
  readonly #disks: readonly Disk[] = NAMES.map((name) => ({
    ...{ name, possible: new Possible(), target: Buffer.alloc(SIZE, UNTOUCHED) },
    ...{ fills: UNTOUCHED, overlay: undefined, writes: [] },
  }));
  #clock = new ManualClock();
  #mount: OverlayDirectory;
  #failed: unknown;
  crashes = 0;
  refused = 0;

  /** @param dataBytes how many bytes the claim has beside what the bookkeeping takes */
  constructor(dataBytes: number, pick: () => boolean) {
    this.#directory = new SimulatedDirectory(pick);
    this.#directory.limit = BOOKKEEPING + dataBytes;
    this.#mount = this.#directory.mount();
  }

  get operations(): number {
    return this.#directory.operations;
  }

  /** @param crash after so many operations */
  async step(which: number, step: Step, crash?: { readonly after: number; readonly power: boolean }): Promise<void> {
    await this.#outlast(() => this.#soon(this.#carryOut(this.#disk(which), step)), crash);
  }

  /** @param crash while it opens, too */
  async restart(power: boolean, crash?: number): Promise<void> {
    this.crashes++;
    if (power) this.#directory.powerLoss();
    else this.#directory.processDeath();
    if (crash !== undefined) this.#directory.fault = { kind: "down", after: crash };
    try {
      await this.open();
      this.#directory.fault = undefined;
    } catch (error) {
      if (crash === undefined || !isDown(error)) throw error;
      await this.restart(power);
    }
  }

  async open(): Promise<void> {
    this.#clock = new ManualClock();
    this.#failed = undefined;
    const onFailed = (error: unknown): void => {
      this.#failed = error;
    };
    this.#mount = this.#directory.mount();
    const room = new ClaimRoom(this.#mount, STATE_BYTES);
    for (const disk of this.#disks) {
      const options = {
        directory: this.#mount,
        room,
        disk: disk.name,
        base: memorySource(Buffer.alloc(SIZE, UNTOUCHED)),
      };
      const opening = Overlay.open({ ...options, epoch: 1, clock: this.#clock, onFailed, journalBytes: JOURNAL });
      disk.overlay = await this.#soon(opening);
      disk.writes = [];
      const content = await disk.overlay.read(0, SIZE, "guest");
      disk.possible.check(content, ["durable"]);
      disk.possible.settle(content);
    }
  }

  /** The cutover of a disk, while the other one's writes wait on. */
  async cutOver(which: number, crash?: { readonly after: number; readonly power: boolean }): Promise<void> {
    const disk = this.#disk(which);
    const isDone = await this.#outlast(async () => {
      await this.#soon(live(disk).seal());
      for (let isFinal = false; !isFinal; ) isFinal = await this.#soon(this.#copyDirty(disk));
    }, crash);
    if (!isDone) return this.cutOver(which);
    await this.#soon(Promise.all(disk.writes));
    await expect(live(disk).write(0, Buffer.alloc(SECTOR), { durable: true })).rejects.toMatchObject({
      code: "DISK_SEALED",
    });
    const content = await live(disk).read(0, SIZE, "guest");
    disk.possible.check(content, ["done", "durable"]);
    expect(disk.target.equals(content)).toBe(true);
    return undefined;
  }

  async close(): Promise<void> {
    for (const disk of this.#disks) await this.#soon(live(disk).close());
    expect(this.#directory.openFiles).toBe(0);
  }

  /** Carries something out, and starts anew where a crash comes in between: then it gives back false. */
  async #outlast(
    body: () => Promise<void>,
    crash?: { readonly after: number; readonly power: boolean },
  ): Promise<boolean> {
    if (crash !== undefined) this.#directory.fault = { kind: "down", after: crash.after };
    try {
      await body();
      await new Promise(setImmediate);
      this.#directory.fault = undefined;
      // It may have struck a write that waits, and nobody else.
      if (this.#failed !== undefined) throw this.#failed;
      return true;
    } catch (error) {
      if (crash === undefined || !isDown(error)) throw error;
      await this.restart(crash.power);
      return false;
    }
  }

  #disk(which: number): Disk {
    return this.#disks[which] as Disk;
  }

  async #carryOut(disk: Disk, step: Step): Promise<void> {
    const overlay = live(disk);
    switch (step.kind) {
      case "write":
        // It may wait for ever.
        disk.writes.push(this.#write(disk, step));
        for (let turn = 0; turn < 3; turn++) await new Promise(setImmediate);
        return;
      case "copy all": {
        const content = Buffer.from(await overlay.read(0, SIZE, "relocation"));
        disk.possible.check(content, ["done", "durable"]);
        await overlay.settle();
        content.copy(disk.target);
        return;
      }
      case "copy dirty":
        await this.#copyDirty(disk);
        return;
      case "flush": {
        const flushed = disk.possible.flushing();
        await overlay.flush();
        flushed();
        return;
      }
      case "save state": {
        const file = await this.#mount.open("agent.json.new");
        await file.write(Buffer.alloc(STATE_BYTES, 1), 0);
        await file.datasync();
        await file.close();
        await this.#mount.rename("agent.json.new", "agent.json");
        await this.#mount.sync();
      }
    }
  }

  async #write(disk: Disk, { at, sectors, zero, durable, givesUp }: Step & { kind: "write" }): Promise<void> {
    const first = at % SECTORS;
    const count = Math.min(sectors, SECTORS - first);
    if (!zero) disk.fills = disk.fills === 255 ? UNTOUCHED + 1 : disk.fills + 1;
    const write: Write = { first, sectors: count, fill: zero ? 0 : disk.fills, state: "under way" };
    disk.possible.add(write);
    const controller = new AbortController();
    const signal = controller.signal;
    const working = live(disk).write(first * SECTOR, Buffer.alloc(count * SECTOR, write.fill), { durable, signal });
    if (givesUp) setImmediate(() => setImmediate(() => controller.abort(new GivenUp())));
    try {
      await working;
      if (write.state === "under way") write.state = durable ? "durable" : "done";
    } catch (error) {
      if (!isDown(error) && !(error instanceof GivenUp) && errorCode(error) !== "DISK_SEALED") throw error;
      if (errorCode(error) === "DISK_SEALED") this.refused++;
      write.state = "refused";
    }
  }

  async #copyDirty(disk: Disk): Promise<boolean> {
    const overlay = live(disk);
    const { id, final } = await overlay.freezeGeneration();
    for (const { offset, length } of overlay.frozenExtents(0, SIZE)) {
      (await overlay.read(offset, length, "relocation")).copy(disk.target, offset);
    }
    await overlay.dropGeneration(id);
    return final;
  }

  /** Lets time pass until it is over. The claim never grows. */
  async #soon<T>(work: Promise<T>): Promise<T> {
    let isOver = false;
    const over = (): void => {
      isOver = true;
    };
    work.then(over, over);
    for (let turn = 0; !isOver; turn++) {
      await new Promise(setImmediate);
      if (turn > 3) await this.#clock.advance(1000);
      if (turn > 50) throw new Error("it waits for space");
    }
    return work;
  }
}

class GivenUp extends Error {}

function live({ overlay }: Disk): Overlay {
  if (overlay === undefined) throw new Error("not open");
  return overlay;
}

/** A failure of the claim is what a crash in a round of commits looks like from inside. */
function isDown(error: unknown): boolean {
  return error instanceof WentDown || errorCode(error) === "OVERLAY_FAILED";
}

const RUNS = Number(process.env.VMRESTORE_OVERLAY_RUNS ?? 150);
const LIMIT_MS = 60_000 + RUNS * 2000;

const write: fc.Arbitrary<Step> = fc
  .record({
    at: fc.nat(),
    sectors: fc.integer({ min: 1, max: 40 }),
    zero: fc.boolean(),
    durable: fc.boolean(),
    givesUp: fc.boolean(),
  })
  .map(({ zero, givesUp, at, ...rest }) => ({
    kind: "write",
    ...rest,
    at,
    zero: zero && at % 3 === 0,
    givesUp: givesUp && at % 2 === 0,
  }));
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: write },
  {
    weight: 4,
    arbitrary: fc
      .constantFrom("copy all", "copy dirty", "copy dirty", "flush", "save state")
      .map((kind) => ({ kind }) as Step),
  },
);
const crash = fc.record({ after: fc.nat(12), power: fc.boolean() });
const steps = fc.array(fc.record({ which: fc.nat(1), step, crash: fc.option(crash, { freq: 4, nil: undefined }) }), {
  minLength: 5,
  maxLength: 40,
});

test(
  "on a claim that never grows a disk is copied, sealed and cut over, whatever waits and whatever crashes",
  async () => {
    let [crashes, refused] = [0, 0];
    await fc.assert(
      fc.asyncProperty(
        ...([fc.nat(60), steps, fc.option(crash, { nil: undefined }), fc.infiniteStream(fc.boolean())] as const),
        async (kib, todo, atEnd, coins) => {
          const run = new Run(kib * 1024, () => coins.next().value as boolean);
          await run.open();
          for (const { which, step: one, crash: when } of todo) await run.step(which, one, when);
          await run.cutOver(0, atEnd);
          await run.step(1, { kind: "copy dirty" });
          await run.cutOver(1);
          await run.close();
          crashes += run.crashes;
          refused += run.refused;
        },
      ),
      { numRuns: RUNS, interruptAfterTimeLimit: LIMIT_MS, markInterruptAsFailure: true },
    );
    expect(crashes).toBeGreaterThan(RUNS / 4);
    expect(refused).toBeGreaterThan(RUNS / 4);
  },
  LIMIT_MS + 300_000,
);

/** Both disks have data; the guest writes over it and beyond it, and waits; the first one is copied, several checkpoints long. */
const COURSE: readonly (readonly [number, Step])[] = [
  ...[0, 8, 16].map((at) => [0, put(at, 8)] as const),
  [1, put(0, 8)],
  [0, { kind: "copy all" }],
  [0, put(4, 40)],
  [1, put(0, 60)],
  [0, { kind: "copy dirty" }],
  [0, put(8, 4)],
  [1, { kind: "save state" }],
  ...[24, 25, 26, 27].map((at) => [0, { ...put(at, 1), zero: true }] as const),
  [0, { kind: "copy dirty" }],
  [1, { kind: "copy dirty" }],
  [0, { kind: "flush" }],
];

function put(at: number, sectors: number): Step & { kind: "write" } {
  return { kind: "write", at, sectors, zero: false, durable: true, givesUp: false };
}

test.each(["the power fails", "the process dies"])(
  "when %s at any operation of a course, it comes to its end",
  async (what) => {
    const power = what === "the power fails";
    // Room for what is kept for two disks, and five pages.
    const dataBytes = 2 * 3 * PAGE + 5 * PAGE;
    for (let after = 0, isOver = false; !isOver; after++) {
      let coin = after;
      const run = new Run(dataBytes, () => {
        coin = (coin * 5 + 3) % 16;
        return coin > 7;
      });
      await run.open();
      let left = after;
      for (const [which, one] of COURSE) {
        const before = run.operations;
        await run.step(which, one, left < 0 || run.crashes > 0 ? undefined : { after: left, power });
        left -= run.operations - before;
      }
      const isCrashed = run.crashes > 0;
      await run.cutOver(0, isCrashed ? undefined : { after: left, power });
      isOver = run.crashes === 0;
      await run.restart(power, after % 30);
      await run.cutOver(1);
      await run.close();
      expect(run.crashes).toBeGreaterThan(0);
    }
  },
);
