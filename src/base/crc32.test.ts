import { crc32 as byZlib } from "node:zlib";
import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { crc32 } from "./crc32.ts";

test("the check value of the CRC catalogue", () => {
  expect(crc32("123456789")).toBe(0xcbf43926);
  expect(crc32(Buffer.alloc(0))).toBe(0);
});

test("what was written down with zlib's is found again, whole or in parts, wherever the bytes lie", () => {
  const content = fc.uint8Array({ maxLength: 20_000 });
  fc.assert(
    fc.property(content, fc.nat(), fc.nat({ max: 0xffffffff }), (bytes, cut, before) => {
      const at = cut % (bytes.length + 1);
      expect(crc32(bytes)).toBe(byZlib(bytes));
      expect(crc32(bytes.subarray(at), crc32(bytes.subarray(0, at)))).toBe(byZlib(bytes));
      // Of nothing at all, zlib's forgets what came before.
      expect(crc32(bytes.subarray(at), before)).toBe(at < bytes.length ? byZlib(bytes.subarray(at), before) : before);
    }),
  );
});
