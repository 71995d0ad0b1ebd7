import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { Bitmap, type BitmapView } from "./bitmap.ts";

const LENGTH = 3 * 512 + 37;

type Step =
  | { readonly kind: "add" | "delete" | "next"; readonly at: number; readonly value: boolean }
  | { readonly kind: "set"; readonly at: number; readonly to: number; readonly value: boolean }
  | { readonly kind: "clear" }
  | { readonly kind: "view" }
  | { readonly kind: "read"; readonly bytes: number };

const at = fc.nat(LENGTH - 1);
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ kind: fc.constantFrom("add" as const, "delete" as const, "next" as const), at, value: fc.boolean() }),
  fc.record({ kind: fc.constant("set" as const), at, to: fc.nat(LENGTH), value: fc.boolean() }),
  fc.constantFrom({ kind: "clear" as const }, { kind: "view" as const }, { kind: "view" as const }),
  fc.record({ kind: fc.constant("read" as const), bytes: fc.nat(90) }),
);

function bytesOf(bits: readonly boolean[]): Buffer {
  const bytes = Buffer.alloc(Math.ceil(bits.length / 8));
  for (const [index, bit] of bits.entries())
    if (bit) bytes[index >>> 3] = (bytes[index >>> 3] ?? 0) | (1 << (index & 7));
  return bytes;
}

test("it equals an array of bits, and a view of it what they were", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps: readonly Step[]) => {
      const bits = new Array<boolean>(LENGTH).fill(false);
      const bitmap = new Bitmap(LENGTH);
      let view: { readonly of: BitmapView; readonly expected: Buffer; read: number } | undefined;
      const read = (bytes: number): void => {
        if (view === undefined) return;
        const piece = Buffer.alloc(Math.min(bytes, view.expected.length - view.read));
        view.of.read(piece, view.read);
        expect(piece.equals(view.expected.subarray(view.read, view.read + piece.length))).toBe(true);
        view.read += piece.length;
      };
      for (const one of steps) {
        if (one.kind === "add") {
          expect(bitmap.add(one.at)).toBe(!bits[one.at]);
          bits[one.at] = true;
        } else if (one.kind === "delete") {
          expect(bitmap.delete(one.at)).toBe(bits[one.at]);
          bits[one.at] = false;
        } else if (one.kind === "set") {
          bitmap.set(one.value, one.at, one.to);
          if (one.at < one.to) bits.fill(one.value, one.at, one.to);
        } else if (one.kind === "clear") {
          bitmap.clear();
          bits.fill(false);
        } else if (one.kind === "next") {
          const found = bits.indexOf(one.value, one.at);
          expect(bitmap.next(one.value, one.at, LENGTH)).toBe(found < 0 ? LENGTH : found);
        } else if (one.kind === "view") {
          read(LENGTH);
          view?.of.release();
          view = { of: bitmap.view(), expected: bytesOf(bits), read: 0 };
        } else if (one.kind === "read") read(one.bytes);
        expect(bitmap.count).toBe(bits.filter(Boolean).length);
      }
      read(LENGTH);
      view?.of.release();
      expect(bits.every((bit, index) => bitmap.has(index) === bit)).toBe(true);
      const loaded = new Bitmap(LENGTH);
      loaded.load(bytesOf(bits), 0);
      expect(loaded.count).toBe(bitmap.count);
      expect([...loaded.runs()]).toEqual([...bitmap.runs()]);
    }),
  );
});

test("memory goes to what differs from its neighbours: 512 bits that are the same take none", () => {
  const length = 2 ** 30;
  const bitmap = new Bitmap(length);
  const empty = bitmap.heldBytes;
  expect(empty).toBeLessThanOrEqual(8 * 2 ** 20);
  bitmap.set(true, 0, length);
  expect(bitmap.heldBytes).toBe(empty);
  for (let index = 0; index < 1000; index++) bitmap.delete(index * 1_000_003);
  expect(bitmap.heldBytes - empty).toBeLessThanOrEqual(64 * 1024);
  // What became the same again is used for others.
  for (let index = 0; index < 1000; index++) bitmap.add(index * 1_000_003);
  expect(bitmap.heldBytes).toBe(empty);
});
