import { expect, test } from "@jest/globals";
import { type Deferred, deferred } from "../base/deferred.ts";
import { ManualClock } from "../base/testing/manual-clock.ts";
import type { ReadReason } from "./read-queue.ts";
import { ReadScheduler } from "./read-scheduler.ts";

const PATIENCE_MS = 80;
const observer = { started: () => undefined, finished: () => undefined, joined: () => undefined };
const settled = (): Promise<void> => new Promise(setImmediate);

/** A scheduler that asks somebody for everything but what it fetches for others. */
class Bench {
  readonly clock = new ManualClock();
  readonly asked: [string, ReadReason][] = [];
  readonly ended: string[] = [];
  readonly fetched: string[] = [];
  readonly stored: string[] = [];
  readonly asks = new Map<string, Deferred<Buffer>>();
  readonly fetches = new Map<string, Deferred<Buffer>>();
  isFetched = true;
  storeFails = false;
  readonly scheduler = new ReadScheduler({
    slots: 2,
    clock: this.clock,
    fetch: (id) => {
      this.fetched.push(id);
      const fetch = deferred<Buffer>();
      this.fetches.set(id, fetch);
      return fetch.promise;
    },
    ask: (id, reason) => {
      this.asked.push([id, reason]);
      const content = deferred<Buffer>();
      this.asks.set(id, content);
      const end = (): void => {
        this.ended.push(id);
        content.reject(new Error("not wanted any more"));
      };
      return { content: content.promise, patienceMs: PATIENCE_MS, isFetched: this.isFetched, end };
    },
    store: async (id) => {
      if (this.storeFails) throw new Error("no room");
      this.stored.push(id);
    },
    isTransient: () => false,
    observer,
  });

  async read(id: string, reason: "guest" | "relocation"): Promise<string> {
    let seen = "";
    await this.scheduler.read(id, reason, (content) => {
      seen = String(content);
    });
    return seen;
  }
}

test("what another gives is lent and stored, takes no slot, and comes to the question's end once", async () => {
  const bench = new Bench();
  for (const id of ["a", "b", "c", "d"]) void bench.scheduler.stage(id, "boot");
  expect(bench.asked.map(([id]) => id)).toEqual(["a", "b", "c", "d"]);
  const read = bench.read("c", "relocation");
  bench.asks.get("c")?.resolve(Buffer.from("of another"));
  expect(await read).toBe("of another");
  await settled();
  expect([bench.stored, bench.ended, bench.fetched]).toEqual([["c"], ["c"], []]);
  expect(bench.scheduler.arrivedBytes).toBe(10);
});

test("whatever goes wrong with the question, the repository is read next", async () => {
  const bench = new Bench();
  const read = bench.read("a", "relocation");
  bench.asks.get("a")?.reject(new Error("wrong content"));
  await settled();
  expect([bench.fetched, bench.ended]).toEqual([["a"], ["a"]]);
  bench.fetches.get("a")?.resolve(Buffer.from("of the repository"));
  expect(await read).toBe("of the repository");
  expect(bench.asked).toEqual([["a", "relocation"]]);
});

test("a guest waits for another no longer than it is patient, whether it asked or came to a question under way", async () => {
  const bench = new Bench();
  const asked = bench.read("a", "guest");
  void bench.scheduler.stage("b", "boot");
  await bench.clock.advance(1000);
  expect(bench.fetched).toEqual(["a"]);
  const joined = bench.read("b", "guest");
  await bench.clock.advance(PATIENCE_MS - 1);
  expect(bench.fetched).toEqual(["a"]);
  await bench.clock.advance(1);
  expect(bench.fetched).toEqual(["a", "b"]);
  expect(bench.ended).toEqual(["a", "b"]);
  for (const id of ["a", "b"]) bench.fetches.get(id)?.resolve(Buffer.from(id));
  expect(await Promise.all([asked, joined])).toEqual(["a", "b"]);
});

test("what is fetched for another is asked of nobody: two that did would wait for one another", async () => {
  const bench = new Bench();
  void bench.scheduler.stage("a", "peer");
  expect([bench.asked, bench.fetched]).toEqual([[], ["a"]]);
  bench.fetches.get("a")?.resolve(Buffer.from("a"));
  await settled();
  const staged = bench.scheduler.stage("b", "boot");
  expect(bench.fetched).toEqual(["a"]);
  void bench.scheduler.stage("b", "peer");
  expect([bench.fetched, bench.ended]).toEqual([["a", "b"], ["b"]]);
  bench.fetches.get("b")?.resolve(Buffer.from("b"));
  await staged;
  expect(bench.stored).toEqual(["a", "b"]);
});

test("a question that nobody fetches anything for goes on where another wants the same: it is soon answered", async () => {
  const bench = new Bench();
  bench.isFetched = false;
  void bench.scheduler.stage("a", "boot");
  const forOther = bench.scheduler.stage("a", "peer");
  expect(bench.fetched).toEqual([]);
  bench.asks.get("a")?.resolve(Buffer.from("a"));
  await forOther;
  expect(bench.stored).toEqual(["a"]);
});

test("an answer that comes too late changes nothing", async () => {
  const bench = new Bench();
  const read = bench.read("a", "guest");
  const late = bench.asks.get("a");
  await bench.clock.advance(PATIENCE_MS);
  late?.resolve(Buffer.from("late"));
  await settled();
  expect(bench.stored).toEqual([]);
  bench.fetches.get("a")?.resolve(Buffer.from("a"));
  expect(await read).toBe("a");
});

test("what is on its way from the repository is told, what is asked for elsewhere is not", async () => {
  const bench = new Bench();
  void bench.scheduler.stage("asked", "boot");
  void bench.scheduler.stage("fetched", "peer");
  expect(bench.scheduler.fetching("asked")).toBeUndefined();
  expect(bench.scheduler.fetching("nothing")).toBeUndefined();
  const fetching = bench.scheduler.fetching("fetched");
  expect(fetching).toBeDefined();
  bench.fetches.get("fetched")?.resolve(Buffer.from("x"));
  await fetching;
});

test("closing ends every question, and nothing is fetched any more", async () => {
  const bench = new Bench();
  const read = bench.read("a", "guest");
  bench.scheduler.close(new Error("ending"));
  await expect(read).rejects.toThrow("ending");
  await bench.clock.advance(1000);
  expect([bench.ended, bench.fetched]).toEqual([["a"], []]);
});

test("an answer that cannot be stored is an error as it is for what the repository gave", async () => {
  const bench = new Bench();
  bench.storeFails = true;
  const staged = bench.scheduler.stage("a", "boot");
  bench.asks.get("a")?.resolve(Buffer.from("a"));
  await expect(staged).rejects.toThrow("no room");
  expect(bench.ended).toEqual(["a"]);
});
