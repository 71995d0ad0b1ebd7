import { expect, test } from "@jest/globals";
import { deferred } from "../../base/deferred.ts";
import { BlobTracker } from "../blob-tracker.ts";
import { BootSetStager, type BootSetStagerOptions } from "./stager.ts";

/** A stager that knows that no more comes. */
function chosen(options: BootSetStagerOptions): BootSetStager {
  const stager = new BootSetStager(options);
  stager.chosen = true;
  return stager;
}

const blob = (id: string): { id: string; length: number } => ({ id, length: 100 });

test("stages every disk's set in its order, the disks in turns, and tells how far it is", async () => {
  const cached = new Set(["b1"]);
  const asked: string[] = [];
  const gate = deferred<void>();
  const stager = chosen({
    cache: cached,
    tracker: new BlobTracker(),
    isWanted: () => true,
    atOnce: 1,
    scheduler: {
      stage: async (id) => {
        asked.push(id);
        if (id === "a3") await gate.promise;
        cached.add(id);
      },
    },
  });
  const sets = new Map([
    ["a", [blob("a1"), blob("a2"), blob("a3")]],
    ["b", [blob("b1"), blob("b2")]],
  ]);
  const done = stager.run(sets, new AbortController().signal);
  await new Promise(setImmediate);
  expect(asked).toEqual(["a1", "a2", "b2", "a3"]);
  expect([stager.total, stager.staged]).toEqual([500, 400]);
  expect(stager.progress("b")).toEqual({ total: 200, staged: 200 });
  gate.resolve();
  await done;
  expect(stager.staged).toBe(500);
  expect(stager.progress("none")).toEqual({ total: 0, staged: 0 });
});

test("what disks share is asked for once, and counts once in all, and for each of them", async () => {
  const cached = new Set<string>();
  const asked: string[] = [];
  let atOnce = 0;
  let most = 0;
  const stager = chosen({
    cache: cached,
    tracker: new BlobTracker(),
    isWanted: () => true,
    atOnce: 4,
    scheduler: {
      stage: async (id) => {
        asked.push(id);
        most = Math.max(most, ++atOnce);
        await new Promise(setImmediate);
        atOnce--;
        cached.add(id);
      },
    },
  });
  const image = ["1", "2", "3", "4", "5", "6"].map(blob);
  const sets = new Map(Array.from({ length: 8 }, (_, index) => [`disk${index}`, [...image, blob(`own${index}`)]]));
  await stager.run(sets, new AbortController().signal);
  expect(asked).toHaveLength(6 + 8);
  expect(new Set(asked).size).toBe(6 + 8);
  expect(most).toBe(4);
  expect([stager.total, stager.staged]).toEqual([1400, 1400]);
  expect(stager.progress("disk7")).toEqual({ total: 700, staged: 700 });
});

test("leaves out what is damaged, and does not call it staged", async () => {
  const cached = new Set<string>();
  const stager = chosen({
    cache: cached,
    tracker: new BlobTracker(),
    isWanted: () => true,
    atOnce: 2,
    scheduler: {
      stage: async (id) => {
        if (id === "bad") throw new Error("damaged");
        cached.add(id);
      },
    },
  });
  await stager.run(new Map([["a", [blob("bad"), blob("good")]]]), new AbortController().signal);
  expect([stager.total, stager.staged]).toEqual([200, 100]);
});

test("ends when it is told to", async () => {
  const stop = new AbortController();
  const stager = chosen({
    cache: new Set(),
    tracker: new BlobTracker(),
    isWanted: () => true,
    atOnce: 1,
    scheduler: { stage: async () => stop.abort(new Error("ended")) },
  });
  await expect(stager.run(new Map([["a", [blob("1"), blob("2")]]]), stop.signal)).rejects.toThrow("ended");
});

test("more may come while it stages, and what is in it already counts once", async () => {
  const cached = new Set<string>();
  const asked: string[] = [];
  const stager = chosen({
    cache: cached,
    tracker: new BlobTracker(),
    isWanted: () => true,
    atOnce: 2,
    scheduler: {
      stage: async (id) => {
        asked.push(id);
        await new Promise(setImmediate);
        cached.add(id);
      },
    },
  });
  stager.chosen = false;
  const { signal } = new AbortController();
  const first = stager.run(new Map([["a", [blob("1"), blob("2"), blob("3")]]]), signal);
  const second = stager.run(
    new Map([
      ["a", [blob("2"), blob("4")]],
      ["b", [blob("1"), blob("5")]],
    ]),
    signal,
  );
  await Promise.all([first, second]);
  expect([stager.total, stager.staged]).toEqual([0, 0]);
  stager.chosen = true;
  await stager.run(new Map([["c", [blob("1"), blob("6")]]]), signal);
  expect([...asked].sort()).toEqual(["1", "2", "3", "4", "5", "6"]);
  expect([stager.total, stager.staged]).toEqual([600, 600]);
  expect(["a", "b", "c"].map((disk) => stager.progress(disk))).toEqual([
    { total: 400, staged: 400 },
    { total: 200, staged: 200 },
    { total: 200, staged: 200 },
  ]);
});

test("nothing more is fetched once the guest is up", async () => {
  const cached = new Set(["1", "5"]);
  const asked: string[] = [];
  const stager = chosen({
    cache: cached,
    tracker: new BlobTracker(),
    isWanted: () => asked.length < 2,
    atOnce: 1,
    scheduler: {
      stage: async (id) => {
        asked.push(id);
        cached.add(id);
      },
    },
  });
  const set = ["1", "2", "3", "4", "5"].map(blob);
  await stager.run(new Map([["a", set]]), new AbortController().signal);
  expect(asked).toEqual(["2", "3"]);
  expect([stager.total, stager.staged]).toEqual([500, 400]);
});
