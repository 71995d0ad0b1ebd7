import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { type BlobLocation, BlobTable } from "./blob-table.ts";
import { IdTable } from "./id-table.ts";
import { indexEntries } from "./testing/index-entries.ts";

/** Few different ones, which differ in their first or their last byte. */
const id = fc
  .tuple(fc.nat(3), fc.nat(3))
  .map(([first, last]) => Buffer.concat([Buffer.alloc(4, first), Buffer.alloc(27), Buffer.of(last)]));
const location = fc.record({
  pack: fc.constantFrom("a", "b", "c").map((letter) => letter.repeat(64)),
  offset: fc.nat(2 ** 32 - 1),
  length: fc.integer({ min: 32, max: 2 ** 24 }),
  uncompressedLength: fc.nat(2 ** 24),
});
/** What is added at once: one index file's blobs. */
const file = fc.array(fc.tuple(id, location), { maxLength: 30 });

const plainLength = ({ length, uncompressedLength }: BlobLocation): number => uncompressedLength || length - 32;

test("a table is a map of lists, whatever was added and however it grew, and so is one made of its parts", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(file, { maxLength: 6 }),
      fc.array(id),
      fc.constantFrom(0, 1, 5, 1024),
      fc.constantFrom("all", "wanted", "wanted, which grows meanwhile"),
      fc.boolean(),
      async (files, asked, room, kind, isCopied) => {
        const added = files.flat();
        const of = kind === "all" ? undefined : await IdTable.of(added.slice(0, 20).map(([blob]) => blob));
        const wanted = of && new Set(Array.from({ length: of.size }, (_, number) => of.hex(number)));
        const first = new BlobTable({ room, of });
        if (kind === "wanted, which grows meanwhile") await of?.addAll(Buffer.concat(added.map(([blob]) => blob)));
        const model = new Map<string, BlobLocation[]>();
        for (const blobs of files) await first.add(indexEntries(blobs, of));
        for (const [blob, place] of added) {
          const name = blob.toString("hex");
          const copies = model.get(name) ?? [];
          if (copies.length < 8 && (wanted?.has(name) ?? true)) model.set(name, [place, ...copies]);
        }
        const { packs, ids, places, last, rows } = first.parts();
        const copied = { packs, ids, places: places.slice(), last: last.slice(), rows: rows.slice() };
        const table = isCopied ? await BlobTable.from(copied, of) : first;
        expect(table.size).toBe([...model.values()].flat().length);
        for (const blob of [...added.map(([each]) => each), ...asked]) {
          const known = model.get(blob.toString("hex")) ?? [];
          expect(table.locations(blob)).toEqual(known);
          expect(table.has(blob)).toBe(known.length > 0);
          const lengths = new Set(known.map(plainLength));
          const [only = -1] = lengths;
          expect(table.plainLength(Buffer.concat([Buffer.alloc(32, 9), blob]), 32)).toBe(lengths.size > 1 ? -2 : only);
        }
      },
    ),
  );
});

test("no more is added than was said", async () => {
  const blobs = Array.from({ length: 20 }, (_, number) => Buffer.alloc(32, number));
  const place = { pack: "a".repeat(64), offset: 0, length: 100, uncompressedLength: 0 };
  const table = new BlobTable();
  await table.add(indexEntries(blobs.map((blob) => [blob, place])), 5);
  expect(table.size).toBe(6);
});
