import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { CopyStream } from "./copy-stream.ts";

const MIB = 1024 * 1024;
const SIZE = 20 * 1024 * MIB;

/** Reads a copy's part of the disk; gives back how many bytes it read before it was recognised. */
function copy(stream: CopyStream, from: number, to: number, block = MIB): number | undefined {
  for (let offset = from; offset < to; offset += block) {
    if (stream.isCopy(offset, block)) return offset - from;
  }
  return undefined;
}

test("a mirror is recognised soon, and each of its reads from then on", () => {
  for (const block of [MIB, MIB / 4]) {
    const stream = new CopyStream(SIZE);
    expect(copy(stream, 0, 200 * MIB, block)).toBeLessThanOrEqual(128 * MIB);
    for (let offset = 129 * MIB; offset < 3000 * MIB; offset += MIB) expect(stream.isCopy(offset, MIB)).toBe(true);
  }
});

test("also when its reads overtake one another, the guest works meanwhile, and what it wrote is not asked for", () => {
  const shuffle = fc.array(fc.nat(15), { minLength: 400, maxLength: 400 });
  fc.assert(
    fc.property(shuffle, (delays) => {
      const stream = new CopyStream(SIZE);
      const order = delays
        .map((delay, index) => ({ index, at: index + delay }))
        .filter(({ index }) => index % 8 !== 7)
        .sort((a, b) => a.at - b.at);
      let missed = 0;
      for (const { index } of order) {
        if (!stream.isCopy(index * MIB, MIB) && index > 160) missed++;
        expect(stream.isCopy(((index * 7919) % 19_000) * MIB, 16_384)).toBe(false);
        stream.isCopy(((index * 104_729) % 19_000) * MIB, MIB / 2);
      }
      expect(missed).toBe(0);
    }),
  );
});

test("the guest's work is never taken for a copy", () => {
  const stream = new CopyStream(SIZE);
  // Small reads in sequence, from the beginning.
  expect(copy(stream, 0, 500 * MIB, 131_072)).toBeUndefined();
  // A large file, anywhere.
  expect(copy(stream, 5000 * MIB, 5900 * MIB)).toBeUndefined();
  // One place again and again.
  for (let count = 0; count < 2000; count++) expect(stream.isCopy((count % 20) * MIB, MIB)).toBe(false);
  // Here and there, ever further.
  for (let offset = 0; offset < SIZE; offset += 8 * MIB) expect(stream.isCopy(offset, MIB)).toBe(false);
});

test("one that was under way before this process began is recognised after a while", () => {
  expect(copy(new CopyStream(SIZE), 7000 * MIB, 9000 * MIB)).toBeLessThanOrEqual(1024 * MIB);
});

test("a small disk's copy is recognised in its first half", () => {
  expect(copy(new CopyStream(10 * MIB), 0, 10 * MIB)).toBeLessThanOrEqual(5 * MIB);
});
