import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { ManualClock } from "../base/testing/manual-clock.ts";
import type { ReadReason } from "./read-queue.ts";
import { ReadScheduler } from "./read-scheduler.ts";

/** How long the repository takes for each request. */
const REQUEST_MS = 100;
const SLOTS = 4;

interface Start {
  readonly reason: ReadReason;
  readonly waited: number;
}

/** A repository that answers every request after the same time, and a scheduler before it. */
class Simulation {
  readonly clock = new ManualClock();
  readonly starts: Start[] = [];
  /** Milliseconds from each guest read to its data. */
  readonly latencies: number[] = [];
  readonly scheduler: ReadScheduler;
  #ids = 0;
  #stopped = false;

  constructor() {
    this.scheduler = new ReadScheduler({
      slots: SLOTS,
      clock: this.clock,
      fetch: async () => {
        await this.clock.sleep(REQUEST_MS);
        return Buffer.alloc(1);
      },
      store: async () => undefined,
      isTransient: () => false,
      observer: {
        started: (reason, waited) => this.starts.push({ reason, waited }),
        finished: () => undefined,
        joined: () => undefined,
      },
    });
  }

  /** Stages one blob after the other, several at once, without end. */
  stage(reason: "boot" | "hydrate" | "lead" | "ahead" | "readahead", atOnce: number): void {
    this.#endless(atOnce, (id) => this.scheduler.stage(id, reason));
  }

  /** Reads one blob after the other, several at once, without end. */
  read(reason: "guest" | "relocation", atOnce: number): void {
    this.#endless(atOnce, async (id) => {
      const begun = this.clock.monotonic();
      await this.scheduler.read(id, reason, () => undefined);
      if (reason === "guest") this.latencies.push(this.clock.monotonic() - begun);
    });
  }

  async readOnce(reason: "guest" | "relocation"): Promise<void> {
    const begun = this.clock.monotonic();
    await this.scheduler.read(`blob ${this.#ids++}`, reason, () => undefined);
    this.latencies.push(this.clock.monotonic() - begun);
  }

  waits(reason: ReadReason): number[] {
    return this.starts.filter((start) => start.reason === reason).map(({ waited }) => waited);
  }

  count(...reasons: readonly ReadReason[]): number {
    return this.starts.filter(({ reason }) => reasons.includes(reason)).length;
  }

  end(): void {
    this.#stopped = true;
    this.scheduler.close(new Error("ended"));
  }

  #endless(atOnce: number, once: (id: string) => Promise<void>): void {
    const worker = async (): Promise<void> => {
      while (!this.#stopped) await once(`blob ${this.#ids++}`);
    };
    for (let count = 0; count < atOnce; count++) worker().catch(() => undefined);
  }
}

/** When guest reads come: pauses in milliseconds, and how many come at once. */
const arrivals = fc.array(fc.tuple(fc.nat(3 * REQUEST_MS), fc.integer({ min: 1, max: SLOTS })), {
  minLength: 1,
  maxLength: 25,
});

test("before relocation a demand read waits for a slot for one request at most, however much is staged", async () => {
  await fc.assert(
    fc.asyncProperty(arrivals, async (plan) => {
      const simulation = new Simulation();
      for (const reason of ["boot", "readahead", "hydrate", "lead", "ahead"] as const) simulation.stage(reason, SLOTS);
      for (const [pause, together] of plan) {
        await simulation.clock.advance(pause);
        const reads = Array.from({ length: together }, () => simulation.readOnce("guest"));
        await simulation.clock.advance(2 * REQUEST_MS);
        // As many reads as there are slots: each has its data after two requests' time.
        await Promise.all(reads);
      }
      expect(Math.max(...simulation.waits("guest"))).toBeLessThanOrEqual(REQUEST_MS);
      expect(Math.max(...simulation.latencies)).toBeLessThanOrEqual(2 * REQUEST_MS);
      simulation.end();
    }),
    { numRuns: 50 },
  );
});

test("one guest read at a time never waits: a slot is kept for it", async () => {
  const simulation = new Simulation();
  simulation.stage("boot", 2 * SLOTS);
  for (let count = 0; count < 50; count++) {
    await simulation.clock.advance((count * 37) % REQUEST_MS);
    const read = simulation.readOnce("guest");
    await simulation.clock.advance(REQUEST_MS);
    await read;
  }
  expect(new Set(simulation.waits("guest"))).toEqual(new Set([0]));
  expect(simulation.count("boot")).toBeGreaterThan(50 * (SLOTS - 1));
  simulation.end();
});

test("nothing is staged ahead of relocation as long as a guest read is under way", async () => {
  const simulation = new Simulation();
  simulation.read("guest", 1);
  await simulation.clock.advance(REQUEST_MS / 2);
  simulation.read("guest", 1);
  simulation.stage("ahead", SLOTS);
  await simulation.clock.advance(20 * REQUEST_MS);
  expect(simulation.count("ahead")).toBe(0);
  expect(simulation.count("guest")).toBeGreaterThanOrEqual(40);
  simulation.end();
});

test.each([
  ["its lead", "lead" as const],
  ["its reads", "relocation" as const],
])("during relocation the guest and %s share the slots evenly when both want all", async (_, side) => {
  const simulation = new Simulation();
  simulation.scheduler.relocating = true;
  simulation.read("guest", 2 * SLOTS);
  if (side === "lead") simulation.stage("lead", 2 * SLOTS);
  else simulation.read("relocation", 2 * SLOTS);
  await simulation.clock.advance(100 * REQUEST_MS);
  const guest = simulation.count("guest");
  const relocation = simulation.count(side);
  expect(guest + relocation).toBeGreaterThan(100 * (SLOTS - 1));
  expect(Math.abs(guest - relocation)).toBeLessThanOrEqual(SLOTS);
  // Nobody waits longer than for the other side's half and those before it on its own.
  expect(Math.max(...simulation.waits("guest"), ...simulation.waits(side))).toBeLessThanOrEqual(5 * REQUEST_MS);
  simulation.end();
});

test("during relocation neither side starves, whatever the two want", async () => {
  const depth = fc.nat(2 * SLOTS);
  await fc.assert(
    fc.asyncProperty(depth, depth, depth, depth, async (guest, relocation, lead, boot) => {
      const simulation = new Simulation();
      simulation.scheduler.relocating = true;
      simulation.stage("boot", boot);
      simulation.stage("lead", lead);
      simulation.read("relocation", relocation);
      simulation.read("guest", guest);
      await simulation.clock.advance(40 * REQUEST_MS);
      const mine = simulation.count("guest", "boot");
      const theirs = simulation.count("relocation", "lead");
      // Of 40 rounds, each side has nearly its half of the slots, or as much of it as its own depth can fill.
      const share = (wanted: number): number => 0.75 * 40 * Math.min(wanted, SLOTS / 2);
      expect(mine).toBeGreaterThanOrEqual(share(Math.max(guest, Math.min(boot, 1))));
      expect(theirs).toBeGreaterThanOrEqual(share(Math.max(relocation, Math.min(lead, 1))));
      simulation.end();
    }),
    { numRuns: 40 },
  );
});

test("a guest read that comes while relocation takes all it can get waits for two requests at most", async () => {
  const simulation = new Simulation();
  simulation.scheduler.relocating = true;
  simulation.read("relocation", 16);
  simulation.stage("lead", 16);
  for (let count = 0; count < 40; count++) {
    await simulation.clock.advance((count * 37) % 250);
    const read = simulation.readOnce("guest");
    await simulation.clock.advance(3 * REQUEST_MS);
    await read;
  }
  expect(Math.max(...simulation.waits("guest"))).toBeLessThanOrEqual(2 * REQUEST_MS);
  simulation.end();
});
