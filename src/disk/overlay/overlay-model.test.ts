import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { deferred } from "../../base/deferred.ts";
import { errorCode } from "../../base/errors.ts";
import { ManualClock } from "../../base/testing/manual-clock.ts";
import type { BlockSource } from "../block-device.ts";
import { DiskError } from "../errors.ts";
import { memorySource } from "../testing/memory-source.ts";
import { type Fault, SimulatedDirectory, WentDown } from "../testing/simulated-directory.ts";
import { Overlay } from "./overlay.ts";

/*
 * The overlay against a plain array, and a copy that is made of it by generations against both.
 *
 * Covered: writes of any offset and length (bytes, sectors, pages; several at once, over one another), zeros, flushes, reads that race
 * them, writes that are given up, seals and changes of the writer while the repository is away, generations, a copying Job that reads while writes are under way, closing and opening; in a disk whose last page and
 * last sector are cut off, with a journal so small that checkpoints come all the time. Faults, each at any operation on the files,
 * those of opening included: the process dies (the page cache stays), the power goes (any sector that was not synced is any of its
 * versions, any change of a name happened or not), EIO (of a write after any part of it, of a sync with any part of the data lost),
 * ENOSPC and short writes for a while, and a claim that is full until it grows.
 *
 * Proven: what was acknowledged as durable is there, sector by sector; the rest is old or new; a seal holds; after a last generation
 * the copy equals the overlay. Not covered here: bytes that change by themselves (overlay.test.ts), real kernels (test/chaos).
 */

const PAGE = 4096;
const SECTOR = 512;
/** Twelve pages and a bit: the last page is cut off, and in it the last sector. */
const SIZE = 12 * PAGE + 3 * SECTOR + 200;
const RUNS = Number(process.env.VMRESTORE_OVERLAY_RUNS ?? 500);
/** Beyond it, or while it shrinks, the test ends by itself and tells its seed: jest's own limit would not. Two hundred times what it needs. */
const LIMIT_MS = 60_000 + RUNS * 2000;
/** Older versions of a sector that are thought of. */
const FALLEN_BACK = 32;
/** Of a failure, `path` too: that case alone is run again. */
const SEED = process.env.VMRESTORE_OVERLAY_SEED;
const PATH = process.env.VMRESTORE_OVERLAY_PATH;
const REPLAYED = {
  ...(SEED === undefined ? {} : { seed: Number(SEED) }),
  ...(PATH === undefined ? {} : { path: PATH }),
};

const base = Buffer.from(Uint8Array.from({ length: SIZE }, (_, index) => (index * 7 + (index >> 9)) & 0xff));

interface Change {
  readonly offset: number;
  readonly length: number;
  /** 0 is written as zeros. */
  readonly fill: number;
  readonly asZeroes: boolean;
  readonly durable: boolean;
  /** Given up after so many turns, if it is not done by then. */
  readonly patience: number | undefined;
}

type Step =
  | { readonly kind: "changes"; readonly changes: readonly Change[] }
  | { readonly kind: "copy"; readonly changes: readonly Change[]; readonly drops: boolean }
  | { readonly kind: "seal away" | "end away"; readonly changes: readonly Change[] }
  | { readonly kind: "flush" | "seal" | "unseal" | "reopen" | "fill up" };

type Trouble = { readonly fault: Fault; readonly power: boolean; readonly whileOpening: number | undefined };

const range = fc
  .tuple(fc.nat(SIZE - 1), fc.oneof(fc.nat(700), fc.nat(3 * PAGE)), fc.constantFrom(1, SECTOR, PAGE))
  .map(([offset, length, unit]) => {
    const start = Math.floor(offset / unit) * unit;
    return { offset: start, length: Math.min(SIZE - start, Math.max(unit, Math.floor(length / unit) * unit)) };
  });

const change: fc.Arbitrary<Change> = fc
  .record({
    at: range,
    fill: fc.oneof({ weight: 4, arbitrary: fc.integer({ min: 1, max: 255 }) }, fc.constant(0)),
    durable: fc.boolean(),
    asZeroes: fc.boolean(),
    patience: fc.option(fc.nat(6), { freq: 3, nil: undefined }),
  })
  .map(({ at, asZeroes, ...rest }) => ({ ...at, ...rest, asZeroes: asZeroes && rest.fill === 0 }));

const changes = fc.array(change, { minLength: 1, maxLength: 4 });

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: changes.map((all) => ({ kind: "changes" as const, changes: all })) },
  {
    weight: 4,
    arbitrary: fc.tuple(changes, fc.boolean()).map(([all, drops]) => ({ kind: "copy" as const, changes: all, drops })),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(fc.constantFrom("seal away" as const, "end away" as const, "end away" as const), changes)
      .map(([kind, all]) => ({ kind, changes: all })),
  },
  {
    weight: 4,
    arbitrary: fc
      .constantFrom(
        "flush" as const,
        "seal" as const,
        "unseal" as const,
        "unseal" as const,
        "reopen" as const,
        "fill up" as const,
      )
      .map((kind) => ({ kind })),
  },
);

const fault: fc.Arbitrary<Fault> = fc.oneof(
  fc.record({ kind: fc.constant("down" as const), after: fc.nat(30) }),
  fc.record({ kind: fc.constant("EIO" as const), after: fc.nat(30) }),
  fc.record({ kind: fc.constant("ENOSPC" as const), after: fc.nat(20), times: fc.integer({ min: 1, max: 6 }) }),
);

const trouble: fc.Arbitrary<Trouble> = fc.record({
  fault,
  power: fc.boolean(),
  whileOpening: fc.option(fc.nat(20), { nil: undefined }),
});

const steps = fc.array(fc.tuple(step, fc.option(trouble, { freq: 3, nil: undefined })), {
  minLength: 4,
  maxLength: 30,
});

interface Version {
  readonly content: Buffer;
  /** Those of the changes made at once that are in it. */
  readonly by: ReadonlySet<Change>;
}

/** What may lie on the disk: for each sector every version that it may have, the last one being what readers see. */
class Model {
  #now: Buffer = Buffer.from(base);
  #sectors: Version[][] = [];
  sealed = false;

  constructor() {
    this.settle(base);
  }

  get now(): Buffer {
    return this.#now;
  }

  /**
   * Changes made at once, in this order. Any of them may fail alone: a part of a sector is read before it is written.
   *
   * @param mayFallBack a sync that fails may have lost what was written before: what is read may then be any older version
   */
  change(all: readonly Change[], mayFallBack: boolean): void {
    const before = this.#now;
    const older = [...this.#sectors];
    for (let choice = 1; choice < 2 ** all.length; choice++) {
      const by = new Set(all.filter((_, index) => (choice & (1 << index)) !== 0));
      const content = Buffer.from(before);
      for (const each of by) fill(content, 0, each);
      for (const s of new Set([...by].flatMap(sectorsOf))) {
        const fallenBack = mayFallBack ? (older[s] ?? []).slice(-FALLEN_BACK) : [];
        const versions = fallenBack.map((version) => {
          const altered = Buffer.from(version.content);
          for (const each of by) fill(altered, s * SECTOR, each);
          return { content: altered, by };
        });
        versions.push({ content: content.subarray(s * SECTOR, (s + 1) * SECTOR), by });
        this.#sectors[s] = [...(this.#sectors[s] ?? []), ...versions];
      }
      this.#now = content;
    }
  }

  /** It is durable: nothing without it can come back. */
  acknowledge(change: Change): void {
    for (const s of sectorsOf(change)) this.#sectors[s] = this.#sectors[s]?.filter(({ by }) => by.has(change)) ?? [];
  }

  /** Some of what was given up may have been written: this is what readers see from now on. */
  observe(content: Buffer): void {
    this.#now = Buffer.from(content);
  }

  /** This is durable, and nothing else is possible any more. */
  settle(content: Buffer): void {
    this.#now = Buffer.from(content);
    this.#sectors = Array.from({ length: Math.ceil(SIZE / SECTOR) }, (_, s) => [
      { content: this.#now.subarray(s * SECTOR, (s + 1) * SECTOR), by: new Set() },
    ]);
  }

  /** Checks against what is possible at the time of this call. */
  checker(): (content: Buffer) => void {
    const sectors = [...this.#sectors];
    return (content) => {
      for (const [s, versions] of sectors.entries()) {
        const found = content.subarray(s * SECTOR, (s + 1) * SECTOR);
        if (!versions.some((version) => version.content.equals(found))) {
          throw new Error(`sector ${s} is none of what it may be`);
        }
      }
    };
  }
}

/** What of a change lies in `bytes`, which begin at `from`. */
function fill(bytes: Buffer, from: number, change: Change): void {
  const first = Math.max(0, change.offset - from);
  const end = Math.min(bytes.length, change.offset + change.length - from);
  if (first < end) bytes.fill(change.fill, first, end);
}

function sectorsOf({ offset, length }: Change): number[] {
  const first = Math.floor(offset / SECTOR);
  return Array.from({ length: Math.ceil((offset + length) / SECTOR) - first }, (_, index) => first + index);
}

class GivenUp extends Error {}

/** What a write may be told that was taken before the disk was sealed, or somebody else wrote. */
function isGivenUp(error: unknown): boolean {
  return error instanceof GivenUp || ["DISK_SEALED", "WRITER_FENCED"].includes(errorCode(error) ?? "");
}

function givenUpAfter(turns: number): AbortSignal {
  const controller = new AbortController();
  const turn = (left: number): unknown =>
    left === 0 ? controller.abort(new GivenUp()) : setImmediate(() => turn(left - 1));
  turn(turns);
  return controller.signal;
}

/** A machine, a relocation and what happens to them. */
class Run {
  readonly #directory: SimulatedDirectory;
  readonly #clock = new ManualClock();
  readonly #model = new Model();
  /** What the copying Job has made durable elsewhere. */
  readonly #target = Buffer.from(base);
  readonly #source = memorySource(base);
  /** While the repository is away: resolves when it is back. */
  #back: Promise<void> | undefined;
  #overlay: Overlay | undefined;
  /** In this step, a sync may fail. */
  #mayFallBack = false;
  crashes = 0;

  constructor(pick: () => boolean) {
    this.#directory = new SimulatedDirectory(pick);
  }

  async start(): Promise<void> {
    this.#overlay = await this.#open();
  }

  async step(todo: Step, trouble: Trouble | undefined): Promise<void> {
    if (trouble !== undefined) this.#directory.fault = trouble.fault;
    this.#mayFallBack = trouble?.fault.kind === "EIO";
    try {
      await this.#settled(this.#carryOut(todo));
      this.#directory.fault = undefined;
      if (todo.kind !== "fill up") this.#directory.limit = undefined;
      expect((await this.#live.read(0, SIZE, "guest")).equals(this.#model.now)).toBe(true);
    } catch (error) {
      const isExpected = error instanceof WentDown || ["OVERLAY_FAILED", "EIO"].includes(errorCode(error) ?? "");
      if (!isExpected || trouble === undefined) throw error;
      await this.#restart(todo, trouble);
    }
  }

  /** The machine is halted; what follows is what every relocation ends with. */
  finish(): Promise<void> {
    return this.#settled(this.#finish());
  }

  async #finish(): Promise<void> {
    await this.#live.seal();
    for (let final = false; !final; ) final = await this.#copy(async () => undefined, true);
    const content = await this.#live.read(0, SIZE, "guest");
    expect(content.equals(this.#model.now)).toBe(true);
    expect(this.#target.equals(content)).toBe(true);
    await this.#live.close();
    expect(this.#directory.openFiles).toBe(0);
  }

  get #live(): Overlay {
    if (this.#overlay === undefined) throw new Error("not open");
    return this.#overlay;
  }

  #open(): Promise<Overlay> {
    const directory = this.#directory.mount();
    const read: BlockSource["read"] = (...args) =>
      this.#back?.then(() => this.#source.read(...args)) ?? this.#source.read(...args);
    const options = { directory, disk: "root", base: { ...this.#source, read }, epoch: 1 };
    return this.#settled(Overlay.open({ ...options, clock: this.#clock, journalBytes: 2048, partialLimit: 4 }));
  }

  async #carryOut(todo: Step): Promise<void> {
    const overlay = this.#live;
    const model = this.#model;
    switch (todo.kind) {
      case "changes": {
        const changed = this.#change(todo.changes);
        changed.catch(() => undefined);
        const check = model.checker();
        check(await overlay.read(0, SIZE, "guest"));
        return changed;
      }
      case "copy": {
        const final = await this.#copy(() => this.#change(todo.changes), todo.drops);
        expect(final && !model.sealed).toBe(false);
        return;
      }
      case "seal away":
      case "end away":
        await this.#whileAway(todo.changes, todo.kind === "seal away");
        return;
      case "flush":
        await overlay.flush();
        model.settle(model.now);
        return;
      case "seal":
        await overlay.seal();
        model.sealed = true;
        model.settle(model.now);
        return;
      case "unseal":
        await overlay.unseal();
        model.sealed = false;
        model.settle(model.now);
        return;
      case "reopen":
        await overlay.close();
        this.#overlay = await this.#open();
        // On a full claim it may have closed without what nobody was told is durable.
        await this.#find();
        await this.#live.flush();
        return;
      case "fill up":
        this.#directory.limit = 0;
    }
  }

  /** All at once; those that touch the same pages take effect in their order. */
  async #change(all: readonly Change[]): Promise<void> {
    const overlay = this.#live;
    const model = this.#model;
    const isSealed = model.sealed;
    if (!isSealed) model.change(all, this.#mayFallBack);
    let isLeft = false;
    const writes = all.map(async (one) => {
      const { offset, length, fill, asZeroes, durable, patience } = one;
      const signal = patience === undefined ? undefined : givenUpAfter(patience);
      if (asZeroes) await overlay.writeZeroes(offset, length, { durable });
      else
        await overlay.write(offset, Buffer.alloc(length, fill), {
          durable,
          ...(signal === undefined ? {} : { signal }),
        });
      if (durable) model.acknowledge(one);
    });
    for (const write of await Promise.allSettled(writes)) {
      if (isSealed && write.status === "fulfilled") throw new Error("a write was taken in spite of the seal");
      if (write.status === "fulfilled" || (isSealed && errorCode(write.reason) === "DISK_SEALED")) continue;
      if (!isGivenUp(write.reason)) throw write.reason;
      isLeft = true;
    }
    // Where a crash came in between, what has been opened since is looked at already.
    if (!isLeft || overlay !== this.#overlay) return;
    const check = model.checker();
    const left = await overlay.read(0, SIZE, "guest");
    check(left);
    model.observe(left);
  }

  /** Seals, or lets somebody else write, while there are writes under way and the repository is away: neither waits for it. */
  async #whileAway(all: readonly Change[], seals: boolean): Promise<void> {
    const overlay = this.#live;
    const back = deferred();
    this.#back = back.promise;
    const changed = this.#change(all);
    changed.catch(() => undefined);
    try {
      for (let turn = 0; turn < (all[0]?.fill ?? 0) % 4; turn++) await new Promise(setImmediate);
      if (seals) await overlay.seal();
      else await overlay.endWrites(new DiskError("WRITER_FENCED", "somebody else writes"));
    } finally {
      this.#back = undefined;
      back.resolve();
      await Promise.allSettled([changed]);
    }
    await changed;
    if (!seals) return;
    this.#model.sealed = true;
    this.#model.settle(this.#model.now);
  }

  /** Looks what is there after opening: it is what it may be, and from now on durable. */
  async #find(): Promise<void> {
    const left = await this.#live.read(0, SIZE, "guest");
    this.#model.checker()(left);
    this.#model.settle(left);
  }

  /** One pass of a copying Job over a generation, while `meanwhile` happens. Gives back whether it is the last. */
  async #copy(meanwhile: () => Promise<void>, drops: boolean): Promise<boolean> {
    const overlay = this.#live;
    const { id, final } = await overlay.freezeGeneration();
    const pages = [...overlay.frozenExtents(0, SIZE)];
    const others = meanwhile();
    others.catch(() => undefined);
    for (const { offset, length } of pages) {
      (await overlay.read(offset, length, "relocation")).copy(this.#target, offset);
    }
    if (drops) await overlay.dropGeneration(id);
    await others;
    return final && drops;
  }

  /** Crashes, opens again, and looks what is there. */
  async #restart(during: Step, { fault: cause, power, whileOpening }: Trouble): Promise<void> {
    this.crashes++;
    for (let attempt = 0; ; attempt++) {
      if (power) this.#directory.powerLoss();
      else this.#directory.processDeath();
      this.#directory.limit = undefined;
      if (attempt === 0 && whileOpening !== undefined) this.#directory.fault = { ...cause, after: whileOpening };
      try {
        this.#overlay = await this.#open();
        await this.#find();
        // On a full claim it goes on opening behind its reader's back.
        await this.#settled(this.#overlay.flush());
        this.#directory.fault = undefined;
        break;
      } catch (error) {
        if (attempt > 0 || whileOpening === undefined || errorCode(error) === "OVERLAY_CORRUPT") throw error;
      }
    }
    if (["seal", "unseal", "seal away"].includes(during.kind)) this.#model.sealed = this.#live.sealed;
    expect(this.#live.sealed).toBe(this.#model.sealed);
  }

  /** Lets time pass until it is over, and the claim grow when it has waited for some of it. */
  async #settled<T>(work: Promise<T>): Promise<T> {
    let isOver = false;
    work
      .catch(() => undefined)
      .finally(() => {
        isOver = true;
      });
    for (let turn = 0; !isOver; turn++) {
      await new Promise(setImmediate);
      if (turn > 3) await this.#clock.advance(1000);
      if (turn > 6) this.#directory.limit = undefined;
      if (turn > 1000) throw new Error("it hangs");
    }
    return work;
  }
}

test(
  "after any fault at any step, what was acknowledged is there, the rest is old or new, and a copy lacks nothing",
  async () => {
    let crashes = 0;
    await fc.assert(
      fc.asyncProperty(steps, fc.infiniteStream(fc.boolean()), async (todo, coins) => {
        const run = new Run(() => coins.next().value as boolean);
        await run.start();
        for (const [one, trouble] of todo) await run.step(one, trouble);
        await run.finish();
        crashes += run.crashes;
      }),
      { numRuns: RUNS, interruptAfterTimeLimit: LIMIT_MS, markInterruptAsFailure: true, ...REPLAYED },
    );
    if (PATH === undefined) expect(crashes).toBeGreaterThan(RUNS / 4);
  },
  LIMIT_MS + 300_000,
);
