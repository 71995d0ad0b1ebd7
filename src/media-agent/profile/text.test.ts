import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { bootProfile } from "../../api/boot-profile.ts";
import type { LearnedDisk } from "./learned-disk.ts";
import { decodeDisk, encodeDisks } from "./text.ts";

const PAGE = 4096;

test("runs keep their order, scores and marks", () => {
  const disk: LearnedDisk = {
    runs: [
      { offset: 244 * PAGE, length: PAGE, score: 8, byPlace: false },
      { offset: 0, length: 2 * PAGE, score: 8, byPlace: true },
      { offset: 9 * PAGE, length: PAGE, score: 4, byPlace: false },
    ],
    content: [
      { offset: 0, mark: "ab_-" },
      { offset: 240 * PAGE, mark: "AAAA" },
    ],
  };
  const [text] = encodeDisks([disk]);
  expect(text).toEqual({ extents: "6s+1*8,0+2!,9+1*4", content: "0:ab_-,6o:AAAA" });
  expect(decodeDisk(text ?? { extents: "" }, 2 ** 40)).toEqual(disk);
});

test("is cut at the disk's end", () => {
  const runs = (extents: string, size: number) =>
    decodeDisk({ extents }, size).runs.map(({ offset, length }) => [offset, length]);
  expect(runs("0+2,1+1,5+1", 6000)).toEqual([
    [0, 8192],
    [4096, 4096],
  ]);
  expect(runs("zzzzzzzzzzzzzzzzzzz+1,0+zzzzzzzzzzzzzzzzzzzzzzzz", 10)).toEqual([[0, 4096]]);
  expect(runs("", 10)).toEqual([]);
  expect(decodeDisk({ extents: "", content: "0:aaaa,1:bbbb,zzzzzzzzzzzzz:cccc,1:dddd" }, 8192).content).toEqual([
    { offset: 0, mark: "aaaa" },
    { offset: 4096, mark: "bbbb" },
  ]);
});

test("whatever was learned makes a valid profile, and comes back", () => {
  const page = fc.nat(2 ** 30);
  const run = fc.record({
    offset: page.map((number) => number * PAGE),
    length: fc.integer({ min: 1, max: 200 }).map((number) => number * PAGE),
    score: fc.integer({ min: 1, max: 40 }),
    byPlace: fc.boolean(),
  });
  const mark = fc.record({ offset: page.map((number) => number * PAGE), mark: fc.stringMatching(/^[\w-]{4}$/) });
  const disk = fc.record({
    runs: fc.array(run, { maxLength: 100 }),
    content: fc.array(mark, { maxLength: 50 }).map((marks) => marks.sort((a, b) => a.offset - b.offset)),
  });
  fc.assert(
    fc.property(fc.array(disk, { maxLength: 4 }), (disks) => {
      const texts = encodeDisks(disks);
      const profile = { boots: 1, disks: texts.map((text, index) => ({ name: `d${index}`, size: 1, ...text })) };
      bootProfile.parse(JSON.parse(JSON.stringify(profile)));
      expect(texts.map((text) => decodeDisk(text, 2 ** 50))).toEqual(disks);
    }),
  );
});

test("too much is cut at the lowest ranks, and fits a Secret with 64 disks", () => {
  const disk = (count: number): LearnedDisk => ({
    runs: Array.from({ length: count }, (_, index) => ({
      offset: index * 10 * PAGE,
      length: PAGE,
      score: 4,
      byPlace: false,
    })),
    content: Array.from({ length: count }, (_, index) => ({ offset: index * 10 * PAGE, mark: "AAAA" })),
  });
  const disks = [disk(50_000), disk(3), ...Array.from({ length: 62 }, () => disk(2000))];
  const texts = encodeDisks(disks);
  bootProfile.parse({ boots: 1, disks: texts.map((text, index) => ({ name: `d${index}`, size: 1, ...text })) });
  const decoded = texts.map((text) => decodeDisk(text, 2 ** 50));
  expect(decoded[1]).toEqual(disks[1]);
  for (const [index, { runs }] of decoded.entries()) expect(runs).toEqual(disks[index]?.runs.slice(0, runs.length));
  expect(decoded[0]?.runs.length).toBeGreaterThan(900);
});

test("a hostile profile names bounded bytes within the disk, whatever it says", () => {
  const token = fc.stringMatching(/^[0-9a-z]{1,14}\+[0-9a-z]{1,14}(\*[0-9a-z]{1,9})?!?$/);
  const mark = fc.stringMatching(/^[0-9a-z]{1,14}:[\w-]{4}$/);
  fc.assert(
    fc.property(fc.array(token), fc.array(mark), fc.integer({ min: 1, max: 2 ** 50 }), (tokens, marks, size) => {
      const { runs, content } = decodeDisk({ extents: tokens.join(","), content: marks.join(",") }, size);
      let bytes = 0;
      for (const { offset, length, score } of runs) {
        bytes += length;
        expect(offset >= 0 && length > 0 && offset < size && offset + length < size + PAGE).toBe(true);
        expect(score >= 1 && score <= 40).toBe(true);
      }
      expect(bytes).toBeLessThanOrEqual(4 * 1024 ** 3);
      for (const [index, { offset }] of content.entries()) {
        expect(offset < size && offset >= (content[index - 1]?.offset ?? 0)).toBe(true);
      }
    }),
  );
  const greedy = decodeDisk({ extents: Array(10_000).fill("0+zzzzz").join(",") }, 2 ** 31);
  expect(greedy.runs).toHaveLength(2);
});

test("what is no profile is refused", () => {
  const parse = (disk: object) => bootProfile.safeParse({ boots: 1, disks: [{ name: "d", size: 1, ...disk }] }).success;
  expect(parse({ extents: "0+1*4!,1+1" })).toBe(true);
  for (const extents of ["0", "0+", "+1", "0+1,", "0+1*", "0+1!!", "0+1 ", "0+1*4*4", "0+A", "0+1,,1+1"]) {
    expect([extents, parse({ extents })]).toEqual([extents, false]);
  }
  for (const content of ["0:abc", "0:abcde", ":abcd", "0:ab/d"]) expect(parse({ extents: "", content })).toBe(false);
  const half = "0+1,".repeat(100_000).slice(0, 500_000);
  const disks = Array.from({ length: 2 }, (_, index) => ({ name: `${index}`, size: 1, extents: `${half}0+1` }));
  expect(bootProfile.safeParse({ boots: 1, disks }).success).toBe(false);
  expect(bootProfile.safeParse({ boots: 1, disks: disks.slice(1) }).success).toBe(true);
});
