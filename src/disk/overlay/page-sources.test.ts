import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { type JournalRecord, OP, PAGE, PageMap, SECTOR, SECTORS_PER_PAGE } from "./page-map.ts";
import { newBytes, type Source, sectorMask, sourcesOf } from "./page-sources.ts";

const PAGES = 12;
/** The last page is not whole, and neither is its last sector. */
const SIZE = PAGES * PAGE - 2 * SECTOR - 100;

const pages = fc
  .tuple(fc.nat(PAGES - 1), fc.integer({ min: 1, max: PAGES }))
  .map(([a, count]) => ({ a, b: Math.min(count, PAGES - a) }));
const records: fc.Arbitrary<JournalRecord> = fc.oneof(
  fc.record({ op: fc.constantFrom(OP.full, OP.zero), range: pages }).map(({ op, range }) => ({ op, ...range })),
  fc.record({ op: fc.constant(OP.partial), a: fc.nat(PAGES - 1), b: fc.integer({ min: 1, max: 255 }) }),
);
const range = fc
  .tuple(fc.nat(SIZE - 1), fc.integer({ min: 1, max: SIZE }))
  .map(([offset, length]) => ({ offset, length: Math.min(length, SIZE - offset) }));

/** What each sector's bytes are, by the records one after the other; and the map that they make. */
function applied(list: readonly JournalRecord[]): { map: PageMap; sectors: Source[] } {
  const map = new PageMap(PAGES);
  const sectors = Array.from({ length: PAGES * SECTORS_PER_PAGE }, (): Source => "base");
  for (const record of list) {
    const { op, a, b } = record;
    // The overlay writes zero pages as a whole.
    if (op === OP.partial && map.zero.has(a)) continue;
    map.apply(record);
    for (let page = a; page < (op === OP.partial ? a + 1 : a + b); page++) {
      for (let sector = 0; sector < SECTORS_PER_PAGE; sector++) {
        if (op === OP.partial && (b & (1 << sector)) === 0) continue;
        sectors[page * SECTORS_PER_PAGE + sector] = op === OP.zero ? "zero" : "data";
      }
    }
  }
  return { map, sectors };
}

test("runs follow one another without gap, each as long as it can be, and every byte comes from where it was put", () => {
  fc.assert(
    fc.property(fc.array(records, { maxLength: 12 }), range, (list, { offset, length }) => {
      const { map, sectors } = applied(list);
      let at = offset;
      let before: Source | undefined;
      for (const { extent, source } of sourcesOf(map, offset, length)) {
        expect(extent.offset).toBe(at);
        expect(extent.length).toBeGreaterThan(0);
        expect(source).not.toBe(before);
        for (let byte = at; byte < at + extent.length; byte = (Math.floor(byte / SECTOR) + 1) * SECTOR)
          expect(sectors[Math.floor(byte / SECTOR)]).toBe(source);
        at += extent.length;
        before = source;
      }
      expect(at).toBe(offset + length);
    }),
    { numRuns: 500 },
  );
});

test("a write takes no more than the pages of which the data file does not hold all that is written", () => {
  fc.assert(
    fc.property(fc.array(records, { maxLength: 12 }), range, (list, { offset, length }) => {
      const { map, sectors } = applied(list);
      const from = Math.floor(offset / SECTOR) * SECTOR;
      const to = Math.min(SIZE, Math.ceil((offset + length) / SECTOR) * SECTOR);
      const lacking = new Set<number>();
      // The last sector stands for all that follows in its page.
      const last = to === SIZE ? PAGES * SECTORS_PER_PAGE : to / SECTOR;
      for (let sector = from / SECTOR; sector < last; sector++)
        if (sectors[sector] !== "data") lacking.add(Math.floor(sector / SECTORS_PER_PAGE));
      expect(newBytes(map, from, to - from, SIZE)).toBe(lacking.size * PAGE);
    }),
    { numRuns: 500 },
  );
});

test("a mask has a bit for each sector; with the last of the disk it has those beyond", () => {
  expect(sectorMask(1, PAGE, PAGE + SECTOR, SIZE)).toBe(1);
  expect(sectorMask(1, PAGE + 3 * SECTOR, 2 * PAGE, SIZE)).toBe(0b1111_1000);
  expect(sectorMask(PAGES - 1, SIZE - (SIZE % SECTOR), SIZE, SIZE)).toBe(0b1110_0000);
});
