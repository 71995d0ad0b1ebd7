import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { formatQuantity, parseQuantity, quantity } from "./quantity.ts";

test.each([
  ["0", 0],
  ["1048576", 1048576],
  ["20Gi", 20 * 2 ** 30],
  ["1.5Gi", 1.5 * 2 ** 30],
  ["200M", 200e6],
  ["0.001Ki", 2],
])("%s is %d bytes", (text, bytes) => {
  expect(parseQuantity(text)).toBe(bytes);
  expect(quantity.safeParse(text).success).toBe(true);
});

test.each(["", "Gi", "-1", "1 Gi", "1e3", "20GB", "1.2345Gi", "100m", "99999999Pi", "٣"])("%p is refused", (text) => {
  expect(parseQuantity(text)).toBeUndefined();
});

test("what is formatted reads back as the same bytes", () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), (bytes) => {
      expect(parseQuantity(formatQuantity(bytes))).toBe(bytes);
    }),
  );
});
