import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { type Deferred, deferred } from "../base/deferred.ts";
import { ManualClock } from "../base/testing/manual-clock.ts";
import { Hydrator } from "./hydrator.ts";
import { lettered } from "./testing/blob-file.ts";

const BLOB = 1_000_000;
const MINUTE = 60_000;

let stop: AbortController;
let clock: ManualClock;
beforeEach(() => {
  stop = new AbortController();
  clock = new ManualClock();
});
afterEach(() => stop.abort());

/** A cache of so many blobs and a repository, which know blobs by the letter of their content. */
class Bench {
  readonly cached = new Set<string>();
  readonly gone = new Set<string>();
  readonly away = new Set<string>();
  readonly asked: string[] = [];
  readonly hydrator: Hydrator;
  readonly #letters = new Map<string, string>();
  readonly durable = new Set<string>();
  readonly unsyncable = new Set<string>();
  readonly damaged = new Set<string>();
  hold: Deferred<void> | undefined;
  holdSyncs: Deferred<void> | undefined;
  underWay = 0;
  mostUnderWay = 0;

  constructor(disks: readonly { readonly letters: string; readonly position?: number }[], room: number, atOnce = 1) {
    for (const { letters } of disks) {
      const file = lettered(letters, BLOB);
      for (let index = 0; index < file.blobCount; index++) this.#letters.set(file.blob(index).id, letters[index] ?? "");
    }
    const letter = (id: string): string => this.#letters.get(id) ?? "?";
    const { cached } = this;
    this.hydrator = new Hydrator({
      parts: disks.map(({ letters, position = 0 }) => ({
        file: lettered(letters, BLOB),
        cursor: { position: position * BLOB },
      })),
      cache: {
        has: (id) => cached.has(letter(id)),
        isDurable: (id) => this.durable.has(letter(id)) && cached.has(letter(id)),
        makeDurable: async (id) => {
          await this.holdSyncs?.promise;
          if (this.damaged.delete(letter(id))) cached.delete(letter(id));
          if (!cached.has(letter(id)) || this.unsyncable.has(letter(id))) return false;
          this.durable.add(letter(id));
          return true;
        },
        get free() {
          return (room - cached.size) * BLOB * 1.01;
        },
      },
      scheduler: {
        stage: async (id) => {
          this.asked.push(letter(id));
          this.mostUnderWay = Math.max(this.mostUnderWay, ++this.underWay);
          await this.hold?.promise;
          this.underWay--;
          if (this.gone.has(letter(id))) throw new Error("it is gone");
          if (this.away.has(letter(id))) throw new Error("away");
          cached.add(letter(id));
        },
      },
      isTransient: (error) => (error as Error).message === "away",
      clock,
      atOnce,
    });
    void this.hydrator.run(stop.signal);
  }

  async settle(): Promise<string> {
    for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
    return this.asked.splice(0).join("");
  }
}

test("does nothing until the backup may vanish, and holds when that has passed", async () => {
  const bench = new Bench([{ letters: "abc" }], 10);
  expect(await bench.settle()).toBe("");
  expect(bench.hydrator.progress).toBeUndefined();
  bench.hold = deferred();
  bench.hydrator.active = true;
  expect(await bench.settle()).toBe("a");
  bench.hydrator.active = false;
  bench.hold.resolve();
  expect(await bench.settle()).toBe("");
  expect(bench.hydrator.progress).toBeUndefined();
});

test("fetches what is neither zeros nor here, each blob once, what relocation has yet to copy first", async () => {
  const bench = new Bench([{ letters: "abc0da", position: 2 }, { letters: "eda" }], 10);
  bench.cached.add("b");
  bench.hydrator.active = true;
  expect(await bench.settle()).toBe("cdae");
  expect(bench.hydrator.progress).toEqual({
    needed: 8 * BLOB,
    safe: 8 * BLOB,
    lost: 0,
    done: true,
    cacheFull: false,
  });
});

test("tells how much there is before the first blob is here", async () => {
  const bench = new Bench([{ letters: "abcd" }], 10);
  bench.cached.add("c");
  bench.hold = deferred();
  bench.hydrator.active = true;
  await bench.settle();
  expect(bench.hydrator.progress).toMatchObject({ needed: 4 * BLOB, safe: BLOB, done: false });
  bench.hold.resolve();
  await bench.settle();
  expect(bench.hydrator.progress).toMatchObject({ safe: 4 * BLOB, done: true });
});

test("stops where the cache is full, says so, and goes on when there is room", async () => {
  const bench = new Bench([{ letters: "abcdef" }], 4, 3);
  bench.hydrator.active = true;
  expect(await bench.settle()).toHaveLength(4);
  expect(bench.hydrator.progress).toMatchObject({ safe: 4 * BLOB, done: true, cacheFull: true });
  bench.cached.delete("a");
  await clock.advance(MINUTE);
  expect(await bench.settle()).toBe("a");
  expect(bench.hydrator.progress).toMatchObject({ safe: 4 * BLOB, cacheFull: true });
});

test("what was evicted is fetched again", async () => {
  const bench = new Bench([{ letters: "abc" }], 10);
  bench.hydrator.active = true;
  await bench.settle();
  bench.cached.delete("b");
  await clock.advance(MINUTE);
  expect(await bench.settle()).toBe("b");
  expect(bench.hydrator.progress).toMatchObject({ safe: 3 * BLOB });
});

test("what is gone counts as lost, and is asked for again only after a while", async () => {
  const bench = new Bench([{ letters: "abc" }], 10);
  bench.gone.add("b");
  bench.hydrator.active = true;
  expect(await bench.settle()).toBe("abc");
  expect(bench.hydrator.progress).toMatchObject({ safe: 2 * BLOB, lost: BLOB, done: true, cacheFull: false });
  await clock.advance(MINUTE);
  expect(await bench.settle()).toBe("");
  expect(bench.hydrator.progress).toMatchObject({ safe: 2 * BLOB, lost: BLOB });
  bench.gone.clear();
  for (let minute = 0; minute < 10; minute++) {
    await clock.advance(MINUTE);
    await bench.settle();
  }
  expect(bench.hydrator.progress).toMatchObject({ safe: 3 * BLOB, lost: 0 });
});

test("asks for no more at once than it may", async () => {
  const bench = new Bench([{ letters: "abcdefgh" }], 20, 3);
  bench.hold = deferred();
  bench.hydrator.active = true;
  await bench.settle();
  expect(bench.mostUnderWay).toBe(3);
  bench.hold.resolve();
  await bench.settle();
  expect(bench.mostUnderWay).toBe(3);
  expect(bench.hydrator.progress).toMatchObject({ safe: 8 * BLOB });
});

test("counts as safe what is durable: neither what was cached before, nor what just came, is before its sync", async () => {
  const bench = new Bench([{ letters: "abcd" }], 10, 3);
  for (const letter of "ab") bench.cached.add(letter);
  bench.holdSyncs = deferred();
  bench.hydrator.active = true;
  expect(await bench.settle()).toBe("cd");
  expect(bench.hydrator.progress).toMatchObject({ needed: 4 * BLOB, safe: 0, lost: 0, done: false });
  bench.holdSyncs.resolve();
  await bench.settle();
  expect(bench.hydrator.progress).toMatchObject({ safe: 4 * BLOB, lost: 0, done: true });
});

test("what cannot be made durable is neither safe nor lost, and is tried again", async () => {
  const bench = new Bench([{ letters: "abc" }], 10);
  bench.cached.add("a");
  for (const letter of "ab") bench.unsyncable.add(letter);
  bench.hydrator.active = true;
  await bench.settle();
  expect(bench.hydrator.progress).toMatchObject({ safe: BLOB, lost: 0, done: true });
  bench.unsyncable.clear();
  await clock.advance(MINUTE);
  expect(await bench.settle()).toBe("");
  expect(bench.hydrator.progress).toMatchObject({ safe: 3 * BLOB });
});

test("what turns out damaged when it is made durable is fetched", async () => {
  const bench = new Bench([{ letters: "abc" }], 10);
  for (const letter of "abc") bench.cached.add(letter);
  bench.damaged.add("b");
  bench.hydrator.active = true;
  expect(await bench.settle()).toBe("b");
  expect(bench.hydrator.progress).toMatchObject({ safe: 3 * BLOB, lost: 0, done: true });
});

test("what cannot be had just now holds up nothing else, is not lost, and is asked for again", async () => {
  const bench = new Bench([{ letters: "abcd" }], 10);
  bench.away.add("b");
  bench.hydrator.active = true;
  expect(await bench.settle()).toBe("abcd");
  expect(bench.hydrator.progress).toMatchObject({ safe: 3 * BLOB, lost: 0, done: false });
  bench.away.clear();
  await clock.advance(MINUTE);
  expect(await bench.settle()).toBe("b");
  expect(bench.hydrator.progress).toMatchObject({ safe: 4 * BLOB, lost: 0, done: true });
});
