import { expect, test } from "@jest/globals";
import { BufferPool, isPageAligned } from "./buffer-pool.ts";

test("lends no buffer to two at once, and the same ones again", async () => {
  const pool = new BufferPool(65_536);
  const lent = new Set<Buffer>();
  const all = new Set<Buffer>();
  const borrow = (): Promise<void> =>
    pool.use(async (buffer) => {
      expect(buffer.length).toBe(65_536);
      expect(isPageAligned(buffer)).toBe(true);
      expect(isPageAligned(buffer.subarray(4096))).toBe(true);
      expect(isPageAligned(buffer.subarray(512))).toBe(false);
      expect(lent.has(buffer)).toBe(false);
      lent.add(buffer);
      all.add(buffer);
      await new Promise((resolve) => setImmediate(resolve));
      lent.delete(buffer);
    });
  for (let round = 0; round < 5; round++) await Promise.all([borrow(), borrow(), borrow()]);
  await expect(pool.use(() => Promise.reject(new Error("no")))).rejects.toThrow("no");
  await Promise.all(Array.from({ length: 20 }, borrow));
  await Promise.all(Array.from({ length: 20 }, borrow));
  expect(all.size).toBe(20);
  const places = new Set([...all].map((buffer) => buffer.buffer));
  expect(places.size).toBe(3);
});

test("other memory is not taken for aligned", () => {
  expect(isPageAligned(Buffer.allocUnsafeSlow(4096))).toBe(false);
});
