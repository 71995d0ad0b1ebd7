import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { Readahead } from "./readahead.ts";

const MIB = 1024 * 1024;
const KIB = 1024;

class Bench {
  readonly cached = new Set<string>();
  readonly asked: number[] = [];
  readonly readahead: Readahead;

  constructor(blobs: number, windowBytes: number, zeros: readonly number[] = []) {
    this.readahead = new Readahead({
      windowBytes,
      cache: this.cached,
      file: {
        size: blobs * MIB,
        blobCount: blobs,
        indexAt: (offset) => Math.floor(offset / MIB),
        blob: (index) => ({ index, id: `${index}`, offset: index * MIB, length: MIB, zero: zeros.includes(index) }),
      },
      scheduler: {
        stage: async (id, reason) => {
          expect(reason).toBe("readahead");
          this.asked.push(Number(id));
          if (id === "13") throw new Error("damaged");
        },
      },
    });
  }

  /** A read that has its data. */
  read(offset: number, length: number): void {
    this.cached.add(`${Math.floor(offset / MIB)}`);
    this.readahead.read(offset, length);
  }

  sequence(from: number, to: number, step = 128 * KIB): void {
    for (let offset = from; offset < to; offset += step) this.read(offset, Math.min(step, to - offset));
  }
}

test("reads ahead of a sequence, each blob once, ever further up to its window", () => {
  const bench = new Bench(100, 4 * MIB, [6]);
  bench.cached.add("5");
  bench.sequence(0, 384 * KIB);
  expect(bench.asked).toEqual([]);
  bench.sequence(384 * KIB, 4 * MIB);
  expect(bench.asked).toEqual([1, 2, 3, 4]);
  bench.sequence(4 * MIB, 60 * MIB);
  expect(bench.asked).toEqual(Array.from({ length: 63 }, (_, index) => index + 1).filter((n) => n !== 5 && n !== 6));
  bench.sequence(60 * MIB, 100 * MIB);
  expect(Math.max(...bench.asked)).toBe(99);
  expect(new Set(bench.asked).size).toBe(bench.asked.length);
});

test("random reads start nothing, and do not disturb a sequence", () => {
  const bench = new Bench(1000, 16 * MIB);
  for (let count = 0; count < 5000; count++) bench.read(((count * 7919) % 1000) * MIB, 64 * KIB);
  for (let count = 0; count < 100; count++) bench.read(7 * MIB, 64 * KIB);
  expect(bench.asked).toEqual([]);
  bench.cached.clear();
  for (let offset = 0; offset < 8 * MIB; offset += 128 * KIB) {
    bench.read(offset, 128 * KIB);
    for (let count = 0; count < 5; count++) bench.read((500 + ((offset / KIB + count * 97) % 400)) * MIB, 4096);
  }
  expect(bench.asked).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
});

test("what was read ahead in vain is less than what was read in sequence, and within the window", () => {
  const step = fc.record({ from: fc.nat(900), kib: fc.integer({ min: 4, max: 6000 }) });
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 12 }), fc.integer({ min: 1, max: 8 }), (steps, window) => {
      for (const { from, kib } of steps) {
        const bench = new Bench(1000, window * MIB);
        bench.sequence(from * MIB, from * MIB + kib * KIB);
        const end = from * MIB + kib * KIB;
        const ahead = bench.asked.filter((blob) => blob * MIB >= end).length;
        // Whole blobs, so one more.
        expect(ahead).toBeLessThanOrEqual(Math.min(window, kib / 1024 / 2) + 1);
      }
    }),
  );
});

test("reads of a sequence that overtake one another are one sequence", () => {
  const bench = new Bench(100, 16 * MIB);
  for (let offset = 0; offset < 4 * MIB; offset += 256 * KIB) {
    bench.read(offset + 128 * KIB, 128 * KIB);
    bench.read(offset, 128 * KIB);
  }
  expect(bench.asked.slice(0, 3)).toEqual([1, 2, 3]);
});
