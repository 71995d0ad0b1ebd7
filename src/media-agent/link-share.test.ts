import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { ManualClock } from "../base/testing/manual-clock.ts";
import { isRelocations } from "./read-queue.ts";
import { ReadScheduler } from "./read-scheduler.ts";
import { SharedLink } from "./testing/shared-link.ts";

const MIB = 2 ** 20;
const SLOTS = 8;
const BLOBS = 300;
/** Decoding a blob and putting it in the cache. */
const STORE_MS = 10;

interface Link {
  readonly delayMs: number;
  readonly bytesPerSecond: number;
}

interface Guest {
  readonly atOnce: number;
  readonly pauseMs: number;
  readonly untilMs?: number;
}

const NEAR: Link = { delayMs: 5, bytesPerSecond: 50e6 };
const FAR: Link = { delayMs: 30, bytesPerSecond: 125e6 };
/** So fast that 8 requests never fill it. */
const DISTANT: Link = { delayMs: 30, bytesPerSecond: 2e9 };

/** A disk of 300 blobs as restic cuts them, half a MiB to 8 MiB, that relocates over a link while a guest reads it. In virtual time. */
class Simulation {
  readonly clock = new ManualClock(0);
  readonly link: SharedLink;
  readonly scheduler: ReadScheduler;
  /** How much longer each read of the guest took than alone on the link, those left out that found their blob under way. */
  readonly slowdowns: number[] = [];
  readonly bytes = { guest: 0, relocation: 0 };
  /** When all was there; undefined before. */
  relocated: number | undefined;
  readonly #sizes: readonly number[];
  readonly #cached = new Set<number>();
  readonly #random = repeatable();
  #next = 0;

  constructor(link: Link) {
    const { clock } = this;
    this.link = new SharedLink({ clock, ...link });
    this.#sizes = Array.from({ length: BLOBS }, () => Math.min(8, 0.5 - Math.log(1 - this.#random())) * MIB);
    this.scheduler = new ReadScheduler({
      ...{ slots: SLOTS, clock, isTransient: () => false },
      fetch: async (id) => {
        await this.link.request(this.#size(Number(id)));
        return Buffer.alloc(1);
      },
      store: async (id, _, reason) => {
        await clock.sleep(STORE_MS);
        this.#cached.add(Number(id));
        this.bytes[isRelocations(reason) ? "relocation" : "guest"] += this.#size(Number(id));
      },
      observer: { started: () => undefined, finished: () => undefined, joined: () => undefined },
    });
  }

  /** Requests that are the relocation's. */
  get held(): number {
    return this.scheduler.running("lead") + this.scheduler.running("ahead");
  }

  /** Whether there is more that the relocation has not asked for. */
  get isStaging(): boolean {
    return this.#next < BLOBS;
  }

  /** @param reason why what the relocation reads is staged: `ahead` before it runs */
  relocate(reason: "lead" | "ahead" = "lead"): void {
    this.scheduler.relocating = reason === "lead";
    const worker = async (): Promise<void> => {
      while (this.#next < BLOBS) {
        const blob = this.#next++;
        if (!this.#cached.has(blob)) await this.scheduler.stage(String(blob), reason);
      }
    };
    const workers = Array.from({ length: SLOTS - 1 }, worker);
    void Promise.all(workers).then(() => {
      this.relocated = this.clock.monotonic();
    });
  }

  /** A guest that reads at random places what is not there yet, several at once, with a pause before each (at least 1 ms). */
  guest({ atOnce, pauseMs, untilMs = Number.POSITIVE_INFINITY }: Guest): void {
    const reader = async (): Promise<void> => {
      while (this.#cached.size < BLOBS && this.clock.monotonic() < untilMs) {
        await this.clock.sleep(pauseMs);
        await this.#read();
      }
    };
    for (let count = 0; count < atOnce; count++) void reader();
  }

  async #read(): Promise<void> {
    const blob = Math.floor(this.#random() * BLOBS);
    if (this.#cached.has(blob)) return;
    const begun = this.clock.monotonic();
    await this.scheduler.read(String(blob), "guest", () => undefined);
    this.slowdowns.push((this.clock.monotonic() - begun) / this.link.alone(this.#size(blob)));
  }

  async end(): Promise<number> {
    for (let waited = 0; waited < 600 && this.relocated === undefined; waited++) await this.clock.advance(200);
    if (this.relocated === undefined) throw new Error("the relocation stands still");
    return this.relocated;
  }

  #size(blob: number): number {
    return this.#sizes[blob] ?? 0;
  }
}

/** @returns numbers in [0, 1) */
function repeatable(): () => number {
  let state = 7;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

async function relocation(link: Link, guest?: Guest) {
  const simulation = new Simulation(link);
  simulation.relocate();
  if (guest !== undefined) simulation.guest(guest);
  const took = await simulation.end();
  const { guest: guests, relocation: own } = simulation.bytes;
  return { took, slowdown: mean(simulation.slowdowns), share: own / (own + guests), bytes: own + guests };
}

test.each([
  ["near", NEAR],
  ["far", FAR],
])("alone, the relocation fills a %s link", async (_, link) => {
  const { took, bytes } = await relocation(link);
  expect(took).toBeLessThan(1.05 * 1000 * (bytes / link.bytesPerSecond));
});

test("a guest that reads one blob after the other is twice as fast on a near link, and the link stays full", async () => {
  const alone = await relocation(NEAR);
  const both = await relocation(NEAR, { atOnce: 1, pauseMs: 1 });
  // With all of the relocation's requests beside it, it is slower by a factor of 5.6.
  expect(both.slowdown).toBeLessThan(3.1);
  expect(both.share).toBeGreaterThan(0.5);
  expect(both.took).toBeLessThan(1.02 * alone.took);
});

test("short pauses of a guest do not bring the relocation back", async () => {
  const alone = await relocation(NEAR);
  const both = await relocation(NEAR, { atOnce: 1, pauseMs: 20 });
  expect(both.slowdown).toBeLessThan(3.1);
  expect(both.took).toBeLessThan(1.04 * alone.took);
});

test("a guest that reads now and then takes next to nothing from the relocation", async () => {
  const alone = await relocation(NEAR);
  expect((await relocation(NEAR, { atOnce: 1, pauseMs: 300 })).took).toBeLessThan(1.05 * alone.took);
});

test("where the delay is large the relocation keeps as many requests as the link needs", async () => {
  const alone = await relocation(FAR);
  const both = await relocation(FAR, { atOnce: 1, pauseMs: 1 });
  // It is 1.9 with all of them; with a single one beside the guest's, the relocation takes more than twice as long.
  expect(both.slowdown).toBeLessThan(1.7);
  expect(both.took).toBeLessThan(1.03 * alone.took);
});

test("where requests do not slow one another down the relocation keeps all of them", async () => {
  const alone = await relocation(DISTANT);
  const both = await relocation(DISTANT, { atOnce: 1, pauseMs: 1 });
  expect(both.took).toBeLessThan(1.02 * alone.took);
});

test("a guest with as many reads as there are slots leaves the relocation its half", async () => {
  const { share } = await relocation(NEAR, { atOnce: SLOTS, pauseMs: 1 });
  expect(share).toBeGreaterThan(0.4);
});

test("before relocation, what is staged ahead does not fill each pause of a guest that reads", async () => {
  const simulation = new Simulation(NEAR);
  simulation.relocate("ahead");
  simulation.guest({ atOnce: 1, pauseMs: 5 });
  await simulation.end();
  expect(mean(simulation.slowdowns)).toBeLessThan(1.9);
});

test("it holds fewer as long as a guest reads, and all again shortly after", async () => {
  const simulation = new Simulation(NEAR);
  simulation.relocate();
  await simulation.clock.advance(2000);
  expect(simulation.held).toBe(SLOTS - 1);
  simulation.guest({ atOnce: 1, pauseMs: 1, untilMs: 4000 });
  await simulation.clock.advance(1000);
  for (let count = 0; count < 10; count++) {
    expect(simulation.held).toBeLessThanOrEqual(SLOTS / 2);
    await simulation.clock.advance(100);
  }
  // The guest's last read, and a little more than 7 steps.
  await simulation.clock.advance(700);
  expect(simulation.held).toBe(SLOTS - 1);
});

test("whoever reads how much: the relocation is never without a request, and ends", async () => {
  const readers = fc.array(
    fc.record({ atOnce: fc.integer({ min: 1, max: 10 }), pauseMs: fc.integer({ min: 1, max: 200 }) }),
    {
      maxLength: 3,
    },
  );
  const links = fc.record({ delayMs: fc.nat(60), bytesPerSecond: fc.constantFrom(50e6, 200e6, 2e9) });
  await fc.assert(
    fc.asyncProperty(links, readers, async (link, guests) => {
      const simulation = new Simulation(link);
      simulation.relocate();
      for (const guest of guests) simulation.guest(guest);
      let without = 0;
      while (simulation.isStaging) {
        await simulation.clock.advance(20);
        without = simulation.held > 0 || !simulation.isStaging ? 0 : without + 1;
        // A request that a guest waits for as well is the guest's from then on.
        expect(without).toBeLessThan(25);
      }
      await simulation.end();
    }),
    { numRuns: 10 },
  );
});
