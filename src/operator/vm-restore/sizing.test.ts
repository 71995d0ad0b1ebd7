import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { parseQuantity } from "../../api/quantity.ts";
import { cacheSize, overlaySize, targetSize, usableCache } from "./sizing.ts";

const GIB = 2 ** 30;
const bytesOf = (sized: object): number => ("bytes" in sized ? (sized.bytes as number) : Number.NaN);
const diskSize = fc.integer({ min: 512, max: 2 ** 46 });

test("a filesystem target holds the disk after KubeVirt took its overhead off", () => {
  fc.assert(
    fc.property(diskSize, (size) => {
      const bytes = bytesOf(targetSize(undefined, size, "Filesystem"));
      expect(bytes * (1 - 0.055)).toBeGreaterThanOrEqual(size);
      expect(bytes).toBeLessThan(size * 1.06 + 4 * 2 ** 20);
    }),
  );
});

test("a block target is the disk, rounded up to a mebibyte", () => {
  expect(bytesOf(targetSize(undefined, GIB, "Block"))).toBe(GIB);
  expect(bytesOf(targetSize(undefined, GIB + 1, "Block"))).toBe(GIB + 2 ** 20);
});

test("by default nothing that the guest writes fills the overlay", () => {
  fc.assert(
    fc.property(fc.array(diskSize, { minLength: 1, maxLength: 40 }), (sizes) => {
      const room = bytesOf(overlaySize(undefined, sizes)) * 0.945;
      // All of each disk; a journal beside the one that is kept free, and what is kept: a journal and two maps, and 4 MiB for all disks.
      const taken = sizes.map((size) => {
        const pages = Math.ceil(size / 4096);
        const map = pages / 2 + 8 * Math.min(pages, 501_024) + 100;
        return pages * 4096 + 2 * 8 * 2 ** 20 + 2 * (map + 4096);
      });
      expect(room).toBeGreaterThan(taken.reduce((sum, bytes) => sum + bytes, 4 * 2 ** 20));
    }),
  );
});

test("the cache is as large as the data, between its bounds", () => {
  expect(bytesOf(cacheSize(undefined, 0))).toBe(256 * 2 ** 20);
  expect(bytesOf(cacheSize(undefined, 500 * GIB))).toBe(20 * GIB);
  expect(bytesOf(cacheSize(undefined, 5 * GIB)) * 0.945).toBeGreaterThanOrEqual(5 * GIB);
  expect(usableCache(GIB)).toBeLessThan(GIB * 0.945);
});

test("a size that was asked for is taken, or refused with the least that is enough", () => {
  for (const refused of [
    targetSize("1Gi", GIB, "Filesystem"),
    overlaySize("1Mi", [100 * GIB]),
    cacheSize("1Mi", GIB),
  ]) {
    const advice = "problem" in refused ? refused.problem : "";
    expect(advice).toMatch(/too small/);
    const least = parseQuantity(/to (\S+) at least/.exec(advice)?.[1] ?? "");
    expect(least).toBeGreaterThan(2 ** 20);
  }
  expect(bytesOf(targetSize("2Gi", GIB, "Filesystem"))).toBe(2 * GIB);
  expect(bytesOf(overlaySize("50Gi", [100 * GIB]))).toBe(50 * GIB);
});
