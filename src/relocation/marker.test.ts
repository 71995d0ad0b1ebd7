import { randomBytes } from "node:crypto";
import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { encodeMarker, heldBackFrom, MARKER_BYTES, newTargetId, parseMarker } from "./marker.ts";

test("is read back as it was written", () => {
  const target = newTargetId();
  const bytes = encodeMarker({ target, size: 2 ** 43 + 512 });
  expect(bytes.length).toBe(MARKER_BYTES);
  expect(parseMarker(bytes)).toEqual({ target, size: 2 ** 43 + 512 });
});

test("anything that was changed, cut or is something else is no marker", () => {
  const bytes = encodeMarker({ target: newTargetId(), size: 1024 * 1024 });
  const used = 16 + 8 + 2 + 36 + 32;
  fc.assert(
    fc.property(fc.nat(used - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
      const changed = Buffer.from(bytes);
      changed[at] = (changed[at] ?? 0) ^ change;
      expect(parseMarker(changed)).toBeUndefined();
    }),
  );
  expect(parseMarker(bytes.subarray(0, MARKER_BYTES - 1))).toBeUndefined();
  expect(parseMarker(Buffer.alloc(MARKER_BYTES))).toBeUndefined();
  expect(parseMarker(randomBytes(MARKER_BYTES))).toBeUndefined();
  const huge = Buffer.from(bytes);
  huge.writeUInt16BE(0xffff, 24);
  expect(parseMarker(huge)).toBeUndefined();
});

test("lies in the last page, whole, and nowhere on a small disk", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 2 ** 34 }), (sectors) => {
      const size = sectors * 512;
      const from = heldBackFrom(size);
      if (size < 64 * 1024) expect(from).toBe(size);
      else {
        expect(from % 4096).toBe(0);
        expect(size - from).toBeLessThanOrEqual(4096);
        expect(size - from).toBeGreaterThanOrEqual(MARKER_BYTES);
      }
    }),
  );
});

test("never reaches beyond a disk that ends within a sector", () => {
  fc.assert(
    fc.property(fc.integer({ min: 64 * 1024, max: 2 ** 43 }), (size) => {
      const from = heldBackFrom(size);
      expect(from % 4096).toBe(0);
      expect(size - from).toBeGreaterThanOrEqual(MARKER_BYTES);
      expect(size - from).toBeLessThan(4096 + MARKER_BYTES);
    }),
  );
});
