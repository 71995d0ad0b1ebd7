import { expect, test } from "@jest/globals";
import { type Deferred, deferred } from "../base/deferred.ts";
import { ManualClock } from "../base/testing/manual-clock.ts";
import type { ReadReason } from "./read-queue.ts";
import { ReadScheduler } from "./read-scheduler.ts";

class Bench {
  readonly clock = new ManualClock();
  readonly started: string[] = [];
  readonly stored: string[] = [];
  storing: Deferred<void> | undefined;
  readonly waits: [ReadReason, number][] = [];
  readonly joins: ReadReason[] = [];
  readonly results: [ReadReason, number, number | undefined][] = [];
  readonly #fetches = new Map<string, Deferred<Buffer>>();
  readonly scheduler: ReadScheduler;

  constructor(slots: number) {
    this.scheduler = new ReadScheduler({
      slots,
      clock: this.clock,
      fetch: (id) => {
        this.started.push(id);
        const fetch = deferred<Buffer>();
        this.#fetches.set(id, fetch);
        return fetch.promise;
      },
      store: async (id) => {
        await this.storing?.promise;
        this.stored.push(id);
      },
      isTransient: (error) => (error as Error).message === "away",
      observer: {
        started: (reason, waited) => this.waits.push([reason, waited]),
        finished: (reason, took, bytes) => this.results.push([reason, took, bytes]),
        joined: (reason) => this.joins.push(reason),
      },
    });
  }

  /** What the reader saw of the blob while it was lent. */
  async read(id: string, reason: "guest" | "relocation"): Promise<string> {
    let seen = "";
    await this.scheduler.read(id, reason, (content) => {
      seen = String(content);
    });
    return seen;
  }

  async answer(id: string, content = Buffer.from(id)): Promise<void> {
    this.#fetches.get(id)?.resolve(content);
    await new Promise(setImmediate);
  }

  async fail(id: string, message: string): Promise<void> {
    this.#fetches.get(id)?.reject(new Error(message));
    await new Promise(setImmediate);
  }
}

test("readers of one blob share one request, which is stored", async () => {
  const bench = new Bench(2);
  const reads = [bench.read("a", "guest"), bench.read("a", "relocation")];
  const staged = bench.scheduler.stage("a", "boot");
  await bench.answer("a");
  expect(await Promise.all(reads)).toEqual(["a", "a"]);
  await staged;
  expect(bench.started).toEqual(["a"]);
  expect(bench.stored).toEqual(["a"]);
  void bench.read("a", "guest");
  expect(bench.started).toEqual(["a", "a"]);
});

test("a demand read overtakes staged ones, and one slot is always left for it", async () => {
  const bench = new Bench(3);
  for (const id of ["s1", "s2", "s3", "s4"]) void bench.scheduler.stage(id, "boot");
  expect(bench.started).toEqual(["s1", "s2"]);
  void bench.read("g1", "guest");
  void bench.read("g2", "guest");
  expect(bench.started).toEqual(["s1", "s2", "g1"]);
  await bench.answer("s1");
  expect(bench.started).toEqual(["s1", "s2", "g1", "g2"]);
  await bench.answer("g1");
  expect(bench.started).toEqual(["s1", "s2", "g1", "g2"]);
  await bench.answer("g2");
  expect(bench.started).toEqual(["s1", "s2", "g1", "g2", "s3"]);
});

test("a demand read of a queued staged blob moves it up; of one in flight, joins it", async () => {
  const bench = new Bench(2);
  void bench.scheduler.stage("s1", "ahead");
  void bench.scheduler.stage("s2", "ahead");
  void bench.scheduler.stage("s3", "ahead");
  const read = bench.read("s3", "guest");
  expect(bench.started).toEqual(["s1", "s3"]);
  const joined = bench.read("s1", "guest");
  await bench.answer("s3");
  await bench.answer("s1");
  expect([await read, await joined]).toEqual(["s3", "s1"]);
  expect(bench.joins).toEqual(["ahead", "ahead"]);
  expect(bench.results.map(([reason]) => reason)).toEqual(["guest", "guest"]);
});

test("a repository that is away makes reads wait, and the slot is free meanwhile", async () => {
  const bench = new Bench(2);
  const read = bench.read("a", "guest");
  await bench.fail("a", "away");
  await bench.clock.advance(200);
  expect(bench.started).toEqual(["a", "a"]);
  await bench.fail("a", "away");
  await bench.clock.advance(399);
  expect(bench.started).toEqual(["a", "a"]);
  const other = bench.read("b", "guest");
  expect(bench.started).toEqual(["a", "a", "b"]);
  await bench.answer("b");
  expect(await other).toBe("b");
  // The other's success wakes the first at once.
  expect(bench.started).toEqual(["a", "a", "b", "a"]);
  await bench.answer("a");
  expect(await read).toBe("a");
});

test("a blob that alone cannot be read holds nobody who stages, is not asked for all the time, and is waited for by a reader", async () => {
  const bench = new Bench(3);
  let seen = "nothing";
  const staged = bench.scheduler.stage("bad", "lead").catch((error: Error) => {
    seen = error.message;
  });
  const other = async (id: string): Promise<void> => {
    void bench.scheduler.stage(id, "lead");
    await bench.answer(id);
  };
  // Nothing else is had: it may be the repository, and it is waited for.
  for (let count = 0; count < 20; count++) {
    await bench.fail("bad", "away");
    await bench.clock.advance(3000);
  }
  expect(seen).toBe("nothing");
  for (let count = 0; count < 6; count++) {
    await bench.fail("bad", "away");
    await other(`other ${count}`);
  }
  await bench.fail("bad", "away");
  await staged;
  expect(seen).toBe("away");

  const read = bench.read("bad", "guest");
  for (let count = 0; count < 8; count++) {
    await bench.fail("bad", "away");
    await other(`more ${count}`);
  }
  const asked = bench.started.filter((id) => id === "bad").length;
  for (let count = 0; count < 20; count++) await other(`many ${count}`);
  expect(bench.started.filter((id) => id === "bad")).toHaveLength(asked);
  await bench.clock.advance(3000);
  await bench.answer("bad");
  expect(await read).toBe("bad");
});

test("an error that is final reaches every reader, and the next read tries again", async () => {
  const bench = new Bench(2);
  const read = bench.read("a", "guest");
  const staged = bench.scheduler.stage("a", "boot");
  await bench.fail("a", "damaged");
  await expect(read).rejects.toThrow("damaged");
  await expect(staged).rejects.toThrow("damaged");
  const again = bench.read("a", "guest");
  await bench.answer("a");
  expect(await again).toBe("a");
});

test("a blob that has arrived is at hand until it is stored, and keeps its slot", async () => {
  const bench = new Bench(2);
  bench.storing = deferred<void>();
  const read = bench.read("a", "guest");
  expect(bench.scheduler.arrived("a")).toBeUndefined();
  await bench.answer("a");
  expect(await read).toBe("a");
  expect(String(bench.scheduler.arrived("a"))).toBe("a");
  void bench.read("b", "guest");
  void bench.read("c", "guest");
  expect(bench.started).toEqual(["a", "b"]);
  bench.storing.resolve();
  await new Promise(setImmediate);
  expect(bench.scheduler.arrived("a")).toBeUndefined();
  expect(bench.started).toEqual(["a", "b", "c"]);
});

test("tells how long requests waited and took", async () => {
  const bench = new Bench(2);
  for (const id of ["a", "b", "c"]) void bench.read(id, "guest");
  await bench.clock.advance(30);
  await bench.answer("a");
  expect(bench.waits).toEqual([
    ["guest", 0],
    ["guest", 0],
    ["guest", 30],
  ]);
  expect(bench.results).toEqual([["guest", 30, 1]]);
});

test("closing rejects whoever waits", async () => {
  const bench = new Bench(2);
  const read = bench.read("a", "guest");
  bench.scheduler.close(new Error("closed"));
  await expect(read).rejects.toThrow("closed");
  await expect(bench.read("b", "guest")).rejects.toThrow("closed");
});

test("bytes are lent until they are stored, to each reader in its turn, and given back at once then", async () => {
  const bench = new Bench(2);
  bench.storing = deferred<void>();
  const content = Buffer.alloc(100_000, 7);
  const sums: number[] = [];
  const use = (lent: Buffer): void => void sums.push(lent.reduce((sum, byte) => sum + byte, 0));
  const early = [bench.scheduler.read("a", "guest", use), bench.scheduler.read("a", "relocation", use)];
  const wrong = bench.scheduler.read("a", "guest", () => {
    throw new Error("no use");
  });
  const failed = expect(wrong).rejects.toThrow("no use");
  await bench.answer("a", content);
  await Promise.all([...early, failed]);
  // It arrived, and is being stored: whoever comes now is lent it before anything else can happen.
  const late = bench.scheduler.read("a", "guest", use);
  bench.storing.resolve();
  await late;
  expect(sums).toEqual([700_000, 700_000, 700_000]);
  await new Promise(setImmediate);
  expect(content.length).toBe(0);
});

test("the rate counts the time in which the repository was read from, and is told of enough bytes only", async () => {
  const clock = new ManualClock();
  const bytes = 8 * 2 ** 20;
  const waiting: Deferred<Buffer>[] = [];
  const scheduler = new ReadScheduler({
    ...{ slots: 4, clock, store: async () => undefined, isTransient: () => false },
    fetch: () => {
      const fetch = deferred<Buffer>();
      waiting.push(fetch);
      return fetch.promise;
    },
    observer: { started: () => undefined, finished: () => undefined, joined: () => undefined },
  });
  const answer = async (): Promise<void> => {
    for (const fetch of waiting.splice(0)) fetch.resolve(Buffer.alloc(bytes));
    await new Promise(setImmediate);
  };
  void scheduler.read("a", "guest", () => undefined);
  await clock.advance(1000);
  await answer();
  expect(scheduler.rate).toBeUndefined();
  // Nobody asks for anything: no time passes.
  await clock.advance(60_000);
  void scheduler.read("b", "guest", () => undefined);
  void scheduler.read("c", "guest", () => undefined);
  await clock.advance(1000);
  await answer();
  expect(scheduler.rate).toBe((3 * bytes) / 2);
  expect(scheduler.arrivedBytes).toBe(3 * bytes);
});
