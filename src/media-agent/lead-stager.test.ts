import { afterEach, expect, test } from "@jest/globals";
import { type Deferred, deferred } from "../base/deferred.ts";
import { BlobTracker } from "./blob-tracker.ts";
import { LeadStager } from "./lead-stager.ts";

const BLOB = 1024 * 1024;
let stop = new AbortController();
afterEach(() => {
  stop.abort();
  stop = new AbortController();
});

/** A disk of `count` blobs of 1 MiB, some of them zeros. */
function disk(name: string, count: number, zeros: readonly number[] = []) {
  return {
    file: {
      size: count * BLOB,
      blobCount: count,
      indexAt: (offset: number) => Math.floor(offset / BLOB),
      blob: (index: number) => ({
        index,
        id: `${name}${index}`,
        offset: index * BLOB,
        length: BLOB,
        zero: zeros.includes(index),
      }),
    },
    cursor: { position: 0 },
  };
}

class Bench {
  readonly cached = new Set<string>();
  readonly tracker = new BlobTracker();
  readonly asked: string[] = [];
  readonly stager: LeadStager;
  hold: Deferred<void> | undefined;

  constructor(disks: readonly ReturnType<typeof disk>[], window: number, atOnce = 1) {
    this.stager = new LeadStager({
      disks,
      cache: this.cached,
      tracker: this.tracker,
      windowBytes: window * BLOB,
      atOnce,
      scheduler: {
        stage: async (id, reason) => {
          this.asked.push(id);
          await this.hold?.promise;
          this.cached.add(id);
          this.tracker.stored(id, BLOB, reason);
        },
      },
    });
    void this.stager.run(stop.signal);
  }

  async settle(): Promise<string[]> {
    await new Promise(setImmediate);
    return this.asked.splice(0);
  }
}

test("holds until it is told why, then stages in order up to its window", async () => {
  const bench = new Bench([disk("a", 10, [1])], 3);
  expect(await bench.settle()).toEqual([]);
  bench.stager.lead = { reason: "ahead", pace: "full" };
  expect(await bench.settle()).toEqual(["a0", "a2", "a3"]);
  bench.tracker.read("a0", BLOB, "relocation");
  bench.stager.wake();
  expect(await bench.settle()).toEqual(["a4"]);
});

test("the window counts what is in flight, and what was in the cache before", async () => {
  const bench = new Bench([disk("a", 10)], 3, 4);
  bench.cached.add("a0");
  bench.hold = deferred<void>();
  bench.stager.lead = { reason: "lead", pace: "full" };
  expect(await bench.settle()).toEqual(["a1", "a2"]);
  bench.hold.resolve();
  expect(await bench.settle()).toEqual([]);
  expect(bench.tracker.leadBytes).toBe(3 * BLOB);
});

test("jumps with the cursor, lets go of what it left behind, and goes back with it", async () => {
  const root = disk("a", 400);
  const bench = new Bench([root], 2);
  bench.stager.lead = { reason: "lead", pace: "full" };
  expect(await bench.settle()).toEqual(["a0", "a1"]);
  root.cursor.position = 200 * BLOB;
  bench.stager.wake();
  expect(await bench.settle()).toEqual(["a200", "a201"]);
  root.cursor.position = 100 * BLOB;
  bench.tracker.read("a200", BLOB, "relocation");
  bench.tracker.read("a201", BLOB, "relocation");
  bench.stager.wake();
  expect(await bench.settle()).toEqual(["a100", "a101"]);
  root.cursor.position = 400 * BLOB;
  bench.stager.wake();
  expect(await bench.settle()).toEqual([]);
  expect(bench.tracker.leadBytes).toBe(0);
});

test("disks of one image: each blob is asked for once, and workers do not wait for one another's", async () => {
  const bench = new Bench([disk("a", 6), disk("a", 6), disk("a", 6)], 100, 4);
  bench.hold = deferred<void>();
  bench.stager.lead = { reason: "ahead", pace: "full" };
  expect(await bench.settle()).toEqual(["a0", "a1", "a2", "a3"]);
  bench.hold.resolve();
  expect((await bench.settle()).sort()).toEqual(["a4", "a5"]);
  expect(bench.tracker.leadBytes).toBe(6 * BLOB);
});

test("takes the disks in turns, and stops when all is staged", async () => {
  const bench = new Bench([disk("a", 3), disk("b", 1)], 100);
  bench.stager.lead = { reason: "ahead", pace: "full" };
  expect(await bench.settle()).toEqual(["a0", "b0", "a1", "a2"]);
  bench.stager.lead = undefined;
  expect(await bench.settle()).toEqual([]);
});

test("gently means one fetch after the other, until it may go at full strength", async () => {
  const bench = new Bench([disk("a", 6)], 100, 4);
  bench.hold = deferred<void>();
  bench.stager.lead = { reason: "ahead", pace: "gentle" };
  expect(await bench.settle()).toEqual(["a0"]);
  bench.stager.lead = { reason: "ahead", pace: "full" };
  expect(await bench.settle()).toEqual(["a1", "a2", "a3"]);
  bench.stager.lead = { reason: "ahead", pace: "gentle" };
  bench.hold.resolve();
  expect(await bench.settle()).toEqual(["a4", "a5"]);
});
