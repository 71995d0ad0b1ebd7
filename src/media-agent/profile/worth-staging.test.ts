import { expect, test } from "@jest/globals";
import fc from "fast-check";
import type { Extent } from "../../disk/block-device.ts";
import { lettered } from "../testing/blob-file.ts";
import { turnsDuring } from "../testing/turns.ts";
import type { LearnedDisk, LearnedRun } from "./learned-disk.ts";
import { mergeBoot } from "./merge.ts";
import { worthStaging } from "./worth-staging.ts";

const PAGE = 4096;
const BLOB = 4 * PAGE;
const NOTHING: LearnedDisk = { runs: [], content: [] };

function pages(...list: readonly (number | readonly [number, number])[]): Extent[] {
  return list.map((item) => {
    const [first, count] = typeof item === "number" ? [item, 1] : item;
    return { offset: first * PAGE, length: count * PAGE };
  });
}

function run(page: number, score: number, byPlace = false): LearnedRun {
  return { offset: page * PAGE, length: PAGE, score, byPlace };
}

test("of another snapshot, what is unchanged is valid, and of a disk that shrank what is still there", async () => {
  const learned = await mergeBoot(NOTHING, pages(8, [0, 6], 20), lettered("abcdef", BLOB));
  expect(await worthStaging(learned, lettered("abcdef", BLOB))).toMatchObject({ valid: 8 * PAGE, outdated: 0 });
  expect(await worthStaging(learned, lettered("aXcde0", BLOB))).toEqual({
    extents: [...pages(8), ...pages([0, 4])],
    valid: 5 * PAGE,
    outdated: 3 * PAGE,
  });
  expect((await worthStaging(learned, lettered("abc", BLOB))).extents).toEqual([
    ...pages(8),
    ...pages([0, 4]),
    ...pages([4, 2]),
  ]);
});

test("what changed comes last, by rank, up to a quarter of what did not", async () => {
  const letters = "abcdefghijklmnop";
  const learned = await mergeBoot(
    NOTHING,
    pages(60, 1, [4, 2], 9, ...[12, 16, 20, 24, 28, 32, 36, 40, 44]),
    lettered(letters, BLOB),
  );
  const now = lettered(`ABC${letters.slice(3)}`, BLOB);
  const { extents, valid, outdated } = await worthStaging(learned, now);
  expect([valid, outdated]).toEqual([10 * PAGE, 4 * PAGE]);
  // Ten blobs are as they were: two more may be staged in vain, a third not.
  expect(extents.slice(0, 10)).toEqual(pages(60, 12, 16, 20, 24, 28, 32, 36, 40, 44));
  expect(extents.slice(10)).toEqual([...pages(1), ...pages([4, 2])]);
});

test("what few boots read is left out", async () => {
  const runs = [run(0, 36), run(1, 10), run(2, 9), run(3, 8), run(4, 1)];
  expect((await worthStaging({ runs, content: [] }, lettered("ab", BLOB))).extents).toEqual(pages(0, 1, 2));
  expect((await worthStaging({ runs: runs.slice(3), content: [] }, lettered("ab", BLOB))).extents).toEqual(pages(3));
});

test("what the last boot read for the first time is staged, however often the others read the rest", async () => {
  const file = lettered("abcdef", BLOB);
  let learned = NOTHING;
  for (let boot = 0; boot < 30; boot++) learned = await mergeBoot(learned, pages(0, 5), file);
  learned = await mergeBoot(learned, pages(20, 0, 5), file);
  expect((await worthStaging(learned, file)).extents).toEqual(pages(0, 5, 20));
  learned = await mergeBoot(learned, pages(0, 5), file);
  expect((await worthStaging(learned, file)).extents).toEqual(pages(0, 5));
});

test("a profile without marks is taken at its word", async () => {
  expect(
    (await worthStaging({ runs: [{ ...run(0, 4), length: 2 * PAGE }], content: [] }, lettered("ab", PAGE))).extents,
  ).toEqual(pages(0, 1));
});

test("whatever a profile says, nothing lies outside of the disk, and the doubtful part is bounded", async () => {
  const any = fc.record({
    offset: fc.nat(40).map((page) => page * PAGE),
    length: fc.integer({ min: 1, max: 60 }).map((count) => count * PAGE),
    score: fc.integer({ min: 1, max: 40 }),
    byPlace: fc.boolean(),
  });
  const marks = fc.array(
    fc.record({ offset: fc.nat(40).map((page) => page * PAGE), mark: fc.constantFrom("AAAA", "aaaa") }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(any), marks, fc.stringMatching(/^[a-e0]{1,9}$/), async (runs, content, letters) => {
      const file = lettered(letters, BLOB);
      const sorted = [...content].sort((a, b) => a.offset - b.offset);
      const { extents, valid, outdated } = await worthStaging({ runs, content: sorted }, file);
      for (const { offset, length } of extents) {
        expect(offset >= 0 && length > 0 && offset + length <= file.size).toBe(true);
      }
      expect(valid >= 0 && outdated >= 0).toBe(true);
    }),
  );
});

test("a profile of many pieces lets others have their turn, whether they are valid or doubtful", async () => {
  const runs = Array.from({ length: 10_000 }, (_, index) => run(index % 8, 10));
  for (const content of [[], [{ offset: 0, mark: "none" }]]) {
    expect(await turnsDuring(worthStaging({ runs, content }, lettered("ab", BLOB)))).toBeGreaterThan(30);
  }
});
