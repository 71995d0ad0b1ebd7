import { expect, test } from "@jest/globals";
import { BufferPool } from "./buffer-pool.ts";

test("lends no buffer to two at once, and the same ones again", async () => {
  const pool = new BufferPool(64);
  const lent = new Set<Buffer>();
  const all = new Set<Buffer>();
  const borrow = (): Promise<void> =>
    pool.use(async (buffer) => {
      expect(buffer.length).toBe(64);
      expect(lent.has(buffer)).toBe(false);
      lent.add(buffer);
      all.add(buffer);
      await new Promise((resolve) => setImmediate(resolve));
      lent.delete(buffer);
    });
  for (let round = 0; round < 5; round++) await Promise.all([borrow(), borrow(), borrow()]);
  await expect(pool.use(() => Promise.reject(new Error("no")))).rejects.toThrow("no");
  await Promise.all([borrow(), borrow(), borrow()]);
  expect(all.size).toBe(3);
});
