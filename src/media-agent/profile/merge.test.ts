import { expect, test } from "@jest/globals";
import fc from "fast-check";
import type { Extent } from "../../disk/block-device.ts";
import { blobFile, lettered } from "../testing/blob-file.ts";
import type { LearnedDisk } from "./learned-disk.ts";
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

/** As `first+count*score!`. */
function shown({ runs }: LearnedDisk): string[] {
  return runs.map(
    ({ offset, length, score, byPlace }) => `${offset / PAGE}+${length / PAGE}*${score}${byPlace ? "!" : ""}`,
  );
}

test("what each boot read ranks first, in the order of the last; the rest follows and fades", async () => {
  const file = lettered("abcdef", BLOB);
  let learned = await mergeBoot(NOTHING, pages(20, [0, 2], 9), file);
  expect(shown(learned)).toEqual(["20+1*10", "0+2*10", "9+1*10"]);
  learned = await mergeBoot(learned, pages(15, 1, 20), file);
  expect(shown(learned)).toEqual(["1+1*17", "20+1*17", "15+1*10", "0+1*7", "9+1*7"]);
  learned = await mergeBoot(learned, pages(20, 1), file);
  expect(shown(learned)).toEqual(["20+1*22", "1+1*22", "15+1*7", "0+1*5", "9+1*5"]);
  for (let boot = 0; boot < 20; boot++) learned = await mergeBoot(learned, pages(20, 1), file);
  expect(shown(learned)).toEqual(["20+1*37", "1+1*37"]);
});

test("zeros are not worth remembering, nor what lies beyond the disk", async () => {
  const file = lettered("a0b", BLOB);
  expect(shown(await mergeBoot(NOTHING, pages([2, 8], 11, 500), file))).toEqual(["2+2*10", "8+2*10", "11+1*10"]);
});

test("what is read again although it changed is read by its place from then on; what is not, is forgotten", async () => {
  let learned = await mergeBoot(NOTHING, pages(0, 4, 8), lettered("abcd", BLOB));
  learned = await mergeBoot(learned, pages(0, 8), lettered("ABcd", BLOB));
  expect(shown(learned)).toEqual(["0+1*17!", "8+1*17"]);
  expect((await worthStaging(learned, lettered("xBCd", BLOB))).extents).toEqual(pages(0));
  // It fades like others when it is not read any more.
  for (let boot = 0; boot < 3; boot++) learned = await mergeBoot(learned, pages(12), lettered("xycd", BLOB));
  expect(shown(learned)).toEqual(["12+1*22", "0+1*6!", "8+1*6"]);
});

test("holds in any history: each page once, scores as counted, nothing that no boot read", async () => {
  const blobs = fc.array(fc.integer({ min: 1, max: 3 * BLOB }), { minLength: 1, maxLength: 8 });
  const reads = fc.uniqueArray(fc.nat(30), { maxLength: 12 });
  const boot = fc.record({ reads, changes: fc.array(fc.nat(7), { maxLength: 3 }) });
  await fc.assert(
    fc.asyncProperty(blobs, fc.array(boot, { minLength: 1, maxLength: 8 }), async (lengths, boots) => {
      const contents = lengths.map((_, index) => `blob ${index}`);
      let learned = NOTHING;
      const model = new Map<number, { score: number; byPlace: boolean; content: string }>();
      for (const [number, { reads: list, changes }] of boots.entries()) {
        for (const index of changes) if (index < contents.length) contents[index] = `blob ${index} of ${number}`;
        const file = blobFile(lengths.map((length, index) => ({ content: contents[index] ?? "", length })));
        learned = await mergeBoot(learned, pages(...list), file);
        const contentOf = (page: number): string => contents[file.indexAt(page * PAGE)] ?? "";
        const inDisk = list.filter((page) => page * PAGE < file.size);
        for (const [page, before] of model) {
          if (inDisk.includes(page)) continue;
          const isForgotten = before.score <= 1 || (before.content !== contentOf(page) && !before.byPlace);
          if (isForgotten) model.delete(page);
          else model.set(page, { ...before, score: Math.floor(before.score * 0.75), content: contentOf(page) });
        }
        for (const page of inDisk) {
          const before = model.get(page);
          const content = contentOf(page);
          const byPlace = before !== undefined && (before.byPlace || before.content !== content);
          model.set(page, { score: Math.floor((before?.score ?? 0) * 0.75) + 10, byPlace, content });
        }
        const found = learned.runs.flatMap(({ offset, length, score, byPlace }) =>
          Array.from({ length: length / PAGE }, (_, index) => [offset / PAGE + index, score, byPlace] as const),
        );
        expect(new Map(found.map(([page, score, byPlace]) => [page, { score, byPlace }]))).toEqual(
          new Map([...model].map(([page, { score, byPlace }]) => [page, { score, byPlace }])),
        );
        expect(found).toHaveLength(model.size);
        expect(found.map(([, score]) => score)).toEqual(found.map(([, score]) => score).sort((a, b) => b - a));
        // Of this very snapshot everything is valid.
        expect((await worthStaging(learned, file)).outdated).toBe(0);
      }
    }),
  );
});
