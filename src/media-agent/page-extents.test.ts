import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { bootProfile } from "../api/boot-profile.ts";
import { decodeExtents, encodeExtents, PROFILE_PAGE } from "./page-extents.ts";

test("comes back as whole pages, in order", () => {
  const extents = [
    { offset: 1_000_000, length: 10 },
    { offset: 0, length: 8192 },
  ];
  const text = encodeExtents(extents);
  expect(decodeExtents(text, 2 ** 40)).toEqual([
    { offset: 999_424, length: 4096 },
    { offset: 0, length: 8192 },
  ]);
  expect(text).toBe("6s+1,0+2");
});

test("is cut at the disk's end", () => {
  expect(decodeExtents("0+2,1+1,5+1", 6000)).toEqual([
    { offset: 0, length: 6000 },
    { offset: 4096, length: 1904 },
  ]);
  expect(decodeExtents("zzzzzzzzzzzzzzzzzzz+1,0+zzzzzzzzzzzzzzzzzzzzzzzz", 10)).toEqual([{ offset: 0, length: 10 }]);
  expect(decodeExtents("", 10)).toEqual([]);
});

test("every list of extents makes a valid profile, and comes back within the limit", () => {
  const extent = fc.record({ offset: fc.nat(2 ** 30), length: fc.integer({ min: 1, max: 2 ** 20 }) });
  fc.assert(
    fc.property(fc.array(extent, { maxLength: 300 }), (extents) => {
      const text = encodeExtents(extents);
      bootProfile.parse({ boots: 1, disks: [{ name: "root", size: 1, extents: text }] });
      const decoded = decodeExtents(text, 2 ** 32);
      expect(decoded).toHaveLength(extents.length);
      for (const [index, { offset, length }] of decoded.entries()) {
        expect(offset % PROFILE_PAGE).toBe(0);
        expect(offset).toBeLessThanOrEqual(extents[index]?.offset ?? -1);
        expect(offset + length).toBeGreaterThanOrEqual((extents[index]?.offset ?? 0) + (extents[index]?.length ?? 0));
      }
    }),
  );
  const many = Array.from({ length: 100_000 }, (_, index) => ({ offset: index * 10 * PROFILE_PAGE, length: 1 }));
  const text = encodeExtents(many);
  expect(text.length).toBeLessThanOrEqual(256 * 1024);
  expect(decodeExtents(text, 2 ** 50)).toEqual(decodeExtents(encodeExtents(many.slice(0, 50_000)), 2 ** 50));
});
