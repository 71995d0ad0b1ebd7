import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { IdTable } from "./id-table.ts";
import { type IndexEntries, parseIndex, type Selection } from "./index-file.ts";

const hexId = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes).toString("hex"));
const blob = fc.record(
  {
    id: hexId,
    type: fc.constantFrom("data", "tree"),
    offset: fc.nat(1_000_000_000),
    length: fc.integer({ min: 32, max: 8_000_000 }),
    uncompressed_length: fc.nat(8_000_000),
  },
  { requiredKeys: ["id", "type", "offset", "length"] },
);
const pack = fc.record({ id: hexId, blobs: fc.array(blob, { maxLength: 5 }) });

const parse = (value: unknown, selection: Selection = "all"): IndexEntries =>
  parseIndex("name", Buffer.from(typeof value === "string" ? value : JSON.stringify(value)), selection);

/** The entries as rows, one per blob. @param of the table whose numbers they bear */
function rows({ packs, ids, numbers, columns }: IndexEntries, of?: IdTable): unknown[] {
  const hex = (list: Uint8Array, at: number): string =>
    Buffer.from(list.subarray(at * 32, at * 32 + 32)).toString("hex");
  expect([ids.length / 32, numbers.length]).toEqual(of ? [0, columns.length / 4] : [columns.length / 4, 0]);
  return Array.from({ length: columns.length / 4 }, (_, index) => {
    const [number = -1, offset, length, uncompressed] = columns.subarray(index * 4, index * 4 + 4);
    const id = of?.hex(numbers[index] ?? -1) ?? hex(ids, index);
    return [hex(packs, number), id, offset, length, uncompressed];
  });
}

test("keeps exactly what is wanted, with its pack", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(pack, { maxLength: 6 }),
      fc.constantFrom("id first", "id last", "as restic writes it"),
      fc.constantFrom("all", "trees", "wanted"),
      fc.nat(3),
      async (packs, order, kind, nth) => {
        const written = packs.map(({ id, blobs }) => {
          if (order !== "as restic writes it") return order === "id first" ? { id, blobs } : { blobs, id };
          const ordered = blobs.map((each) => ({
            id: each.id,
            type: each.type,
            offset: each.offset,
            length: each.length,
            uncompressed_length: each.uncompressed_length,
          }));
          return { id, blobs: ordered };
        });
        const every = packs.flatMap(({ id, blobs }) => blobs.map((each) => ({ ...each, pack: id })));
        const chosen = every.filter((_, index) => index % (nth + 1) === 0);
        const wanted = await IdTable.of(chosen.map(({ id }) => Buffer.from(id, "hex")));
        const expected = every
          .filter((each) => {
            if (kind === "trees") return each.type === "tree";
            return kind === "all" || (each.type === "data" && chosen.includes(each));
          })
          .map((each) => [each.pack, each.id, each.offset, each.length, each.uncompressed_length ?? 0]);
        const index = { supersedes: ["x"], packs: written, extra: { a: [null] } };
        const entries = parse(index, kind === "wanted" ? wanted : kind);
        expect(rows(entries, kind === "wanted" ? wanted : undefined)).toEqual(expected);
      },
    ),
  );
});

test("an empty index is one", () => {
  expect(rows(parse({}))).toEqual([]);
  expect(rows(parse({ packs: null }))).toEqual([]);
  expect(rows(parse({ packs: [] }))).toEqual([]);
});

describe("an index that cannot be true is refused as a whole", () => {
  const id = "ab".repeat(32);
  const good = { id, type: "data", offset: 0, length: 100 };
  test.each([
    ["a negative offset", { offset: -1 }],
    ["an offset beyond any pack", { offset: 2 ** 32 }],
    ["an end beyond any pack", { offset: 2 ** 32 - 50 }],
    ["a broken offset", { offset: 1.5 }],
    ["no offset", { offset: undefined }],
    ["no room for the MAC", { length: 31 }],
    ["a negative length", { length: -100 }],
    ["a huge length", { length: 16 * 1024 * 1024 + 1 }],
    ["a length as text", { length: "100" }],
    ["a huge plain length", { uncompressed_length: 2 ** 31 }],
    ["a negative plain length", { uncompressed_length: -1 }],
    ["another type", { type: "secret" }],
    ["no id", { id: undefined }],
    ["a short id", { id: "abcd" }],
    ["an id in capitals", { id: id.toUpperCase() }],
  ])("%s", (_what, change) => {
    const blobs = [good, { ...good, ...change }];
    expect(() => parse({ packs: [{ id, blobs }] }, "trees")).toThrow(
      expect.objectContaining({ code: "REPOSITORY_OBJECT_DAMAGED", message: expect.stringContaining("index/name") }),
    );
  });

  test.each(["", "null", "[]", "{", '{"packs":{}}', '{"packs":[{"blobs":[]}]}', '{"packs":[]}x', '{"packs":[1]}'])(
    "%j",
    (text) => {
      expect(() => parse(text)).toThrow(expect.objectContaining({ code: "REPOSITORY_OBJECT_DAMAGED" }));
    },
  );
});

test("altered bytes: refused, or read as far as they go, but nothing else", () => {
  const genuine = fc.array(pack, { minLength: 1, maxLength: 3 }).map((packs) => Buffer.from(JSON.stringify({ packs })));
  fc.assert(
    fc.property(genuine, fc.nat(), fc.integer({ min: 0, max: 255 }), (plain, position, value) => {
      plain[position % plain.length] = value;
      try {
        for (const length of parseIndex("name", plain, "all").columns) expect(length).toBeLessThan(2 ** 32);
      } catch (error) {
        expect(error).toMatchObject({ code: "REPOSITORY_OBJECT_DAMAGED" });
      }
    }),
    { numRuns: 1000 },
  );
});
