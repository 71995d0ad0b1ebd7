import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { type IndexEntries, parseIndex } from "./index-file.ts";

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

const parse = (value: unknown, wanted: (type: string, id: Uint8Array) => boolean = () => true): IndexEntries =>
  parseIndex("name", Buffer.from(typeof value === "string" ? value : JSON.stringify(value)), wanted);

/** The entries as rows, one per blob. */
function rows({ packs, ids, columns }: IndexEntries): unknown[] {
  const found: unknown[] = [];
  for (let index = 0; index * 32 < ids.length; index++) {
    const [number = -1, offset, length, uncompressed] = columns.subarray(index * 4, index * 4 + 4);
    const id = Buffer.from(ids.subarray(index * 32, index * 32 + 32)).toString("hex");
    found.push([packs[number], id, offset, length, uncompressed]);
  }
  return found;
}

test("keeps exactly what is wanted, with its pack", () => {
  const order = fc.constantFrom("id first", "id last");
  fc.assert(
    fc.property(
      fc.array(pack, { maxLength: 6 }),
      order,
      fc.constantFrom("data", "tree", "any"),
      (packs, idAt, wanted) => {
        const written = packs.map(({ id, blobs }) => (idAt === "id first" ? { id, blobs } : { blobs, id }));
        const expected = packs.flatMap(({ id, blobs }) =>
          blobs
            .filter(({ type }) => wanted === "any" || type === wanted)
            .map((each) => [id, each.id, each.offset, each.length, each.uncompressed_length ?? 0]),
        );
        const entries = parse({ supersedes: ["x"], packs: written, extra: { a: [null] } }, (type) => {
          return wanted === "any" || type === wanted;
        });
        expect(rows(entries)).toEqual(expected);
      },
    ),
  );
});

test("gives the filter each blob's own id", () => {
  fc.assert(
    fc.property(fc.array(pack, { maxLength: 4 }), (packs) => {
      const seen: string[] = [];
      parse({ packs }, (_type, id) => seen.push(Buffer.from(id).toString("hex")) < 0);
      expect(seen).toEqual(packs.flatMap(({ blobs }) => blobs.map(({ id }) => id)));
    }),
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
    expect(() => parse({ packs: [{ id, blobs }] }, () => false)).toThrow(
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
        for (const length of parseIndex("name", plain, () => true).columns) expect(length).toBeLessThan(2 ** 32);
      } catch (error) {
        expect(error).toMatchObject({ code: "REPOSITORY_OBJECT_DAMAGED" });
      }
    }),
    { numRuns: 1000 },
  );
});
