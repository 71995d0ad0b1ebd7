import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { RecordReader } from "./record-reader.ts";

const LIMIT = 10_000;

/** A record in fragments of these sizes, the rest as the last one. */
function mark(record: Uint8Array, sizes: readonly number[]): Buffer {
  const pieces: Buffer[] = [];
  let at = 0;
  const add = (length: number, isLast: boolean): void => {
    const head = Buffer.alloc(4);
    head.writeUInt32BE((length | (isLast ? 0x80000000 : 0)) >>> 0);
    pieces.push(head, Buffer.from(record.subarray(at, at + length)));
    at += length;
  };
  for (const size of sizes) if (at + size < record.length) add(size, false);
  add(record.length - at, true);
  return Buffer.concat(pieces);
}

const fragmented = fc.tuple(
  fc.uint8Array({ maxLength: 600 }),
  fc.array(fc.integer({ min: 1, max: 200 }), { maxLength: 6 }),
);

test("whatever its fragments and whatever the pieces in which they come, a record is what was sent", () => {
  fc.assert(
    fc.property(
      fc.array(fragmented, { maxLength: 8 }),
      fc.array(fc.integer({ min: 1, max: 300 }), { maxLength: 60 }),
      (records, cuts) => {
        const bytes = Buffer.concat(records.map(([record, sizes]) => mark(record, sizes)));
        const reader = new RecordReader(LIMIT);
        const seen: Buffer[] = [];
        let at = 0;
        for (const cut of [...cuts, bytes.length]) {
          seen.push(...reader.push(bytes.subarray(at, at + cut)));
          at = Math.min(bytes.length, at + cut);
          expect(reader.pending).toBeLessThanOrEqual(LIMIT + 4);
        }
        expect(seen.map((record) => record.toString("hex"))).toEqual(
          records.map(([record]) => Buffer.from(record).toString("hex")),
        );
        expect(reader.pending).toBe(0);
      },
    ),
  );
});

test("the beginning of a record that is not whole can be looked at", () => {
  const record = Buffer.from(Array.from({ length: 100 }, (_, index) => index));
  for (const sizes of [[], [10, 20], [1, 1, 1]]) {
    const reader = new RecordReader(LIMIT);
    const bytes = mark(record, sizes);
    expect([...reader.push(bytes.subarray(0, bytes.length - 5))]).toEqual([]);
    const seen = reader.beginning(8);
    expect(seen.equals(record.subarray(0, seen.length))).toBe(true);
    expect(seen.length).toBe(sizes[0] === 1 ? 3 : 8);
    expect([...reader.push(bytes.subarray(bytes.length - 5))].map((whole) => whole.equals(record))).toEqual([true]);
  }
});

test("a record that is too long, in too many fragments, or of empty ones is refused before it is taken", () => {
  const push = (bytes: Buffer): unknown => [...new RecordReader(LIMIT).push(bytes)];
  const refused = expect.objectContaining({ code: "NFS_RECORD" });
  expect(() => push(Buffer.from([0x80, 0xff, 0xff, 0xff]))).toThrow(refused);
  expect(() => push(Buffer.from([0x7f, 0xff, 0xff, 0xff]))).toThrow(refused);
  expect(() => push(mark(Buffer.alloc(LIMIT + 1), [LIMIT]))).toThrow(refused);
  expect(() => push(Buffer.alloc(4))).toThrow(refused);
  expect(() =>
    push(
      mark(
        Buffer.alloc(2000),
        Array.from({ length: 1500 }, () => 1),
      ),
    ),
  ).toThrow(refused);
  expect(push(mark(Buffer.alloc(LIMIT), [5000]))).toHaveLength(1);
});
