import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { type BlobLocation, BlobTable } from "./blob-table.ts";
import { IdSet } from "./id-set.ts";

/** Few first bytes, so that many ids share a slot and differ only later. */
const id = fc
  .tuple(fc.nat(3), fc.nat(3))
  .map(([first, last]) => Buffer.concat([Buffer.alloc(4, first), Buffer.alloc(27), Buffer.of(last)]));
const location = fc.record({
  pack: fc.constantFrom("a", "b", "c"),
  offset: fc.nat(2 ** 32 - 1),
  length: fc.integer({ min: 32, max: 2 ** 24 }),
  uncompressedLength: fc.nat(2 ** 24),
});

const plainLength = ({ length, uncompressedLength }: BlobLocation): number => uncompressedLength || length - 32;

test("a table is a map of lists, whatever was added and however it grew, and so is one made of its entries", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(id, location)),
      fc.array(id),
      fc.constantFrom(0, 1, 5, 1024),
      fc.boolean(),
      async (added, asked, room, isCopied) => {
        const first = new BlobTable(room);
        const model = new Map<string, BlobLocation[]>();
        for (const [blob, place] of added) {
          first.add(blob, place);
          const copies = model.get(blob.toString("hex")) ?? [];
          if (copies.length < 8) model.set(blob.toString("hex"), [place, ...copies]);
        }
        const { packs, ids, columns } = first.entries();
        const table = isCopied ? await BlobTable.of({ packs, ids: ids.slice(), columns: columns.slice() }) : first;
        expect(table.size).toBe([...model.values()].flat().length);
        for (const blob of [...added.map(([each]) => each), ...asked]) {
          const places = model.get(blob.toString("hex")) ?? [];
          expect(table.locations(blob)).toEqual(places);
          expect(table.has(blob)).toBe(places.length > 0);
          const lengths = new Set(places.map(plainLength));
          const [only = -1] = lengths;
          expect(table.plainLength(Buffer.concat([Buffer.alloc(32, 9), blob]), 32)).toBe(lengths.size > 1 ? -2 : only);
        }
      },
    ),
  );
});

test("an id set holds what was put in, and nothing else, on both sides of a thread", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.array(id)), fc.array(id), async (lists, asked) => {
      const set = await IdSet.of(lists.map((list) => Buffer.concat(list)));
      const model = new Set(lists.flat().map((each) => each.toString("hex")));
      expect(set.size).toBe(model.size);
      const other = IdSet.from(set.shared);
      for (const each of [...lists.flat(), ...asked]) {
        expect(set.has(each)).toBe(model.has(each.toString("hex")));
        expect(other.has(each)).toBe(model.has(each.toString("hex")));
      }
    }),
  );
});
