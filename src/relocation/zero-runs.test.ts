import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { isZero, zeroRuns } from "./zero-runs.ts";

test("runs cover the buffer in order, alternate, and tell zeros as they are", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.boolean(), fc.integer({ min: 1, max: 40 })), { maxLength: 20 }),
      fc.integer({ min: 1, max: 16 }),
      (parts, granularity) => {
        const bytes = Buffer.concat(parts.map(([zero, length]) => Buffer.alloc(length, zero ? 0 : 7)));
        const runs = zeroRuns(bytes, granularity);
        let at = 0;
        for (const [index, { start, end, zero }] of runs.entries()) {
          expect(start).toBe(at);
          expect(end).toBeGreaterThan(start);
          expect(zero).not.toBe(runs[index - 1]?.zero);
          if (zero) expect(bytes.subarray(start, end).every((byte) => byte === 0)).toBe(true);
          else expect(bytes.subarray(start, end).some((byte) => byte !== 0)).toBe(true);
          at = end;
        }
        expect(at).toBe(bytes.length);
      },
    ),
  );
});

test("one byte that is not zero is found wherever it is", () => {
  const bytes = Buffer.alloc(3 * 1024 * 1024 + 5);
  expect(isZero(bytes)).toBe(true);
  for (const at of [0, 1024 * 1024 - 1, 1024 * 1024, bytes.length - 1]) {
    bytes[at] = 1;
    expect(isZero(bytes)).toBe(false);
    bytes[at] = 0;
  }
  expect(isZero(Buffer.alloc(0))).toBe(true);
});
