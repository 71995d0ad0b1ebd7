import { expect, test } from "@jest/globals";
import { crc32c } from "./crc32c.ts";

test("RFC 3720's examples, whatever lies where the checksum is kept", () => {
  const zeros = Buffer.alloc(32);
  expect(crc32c(zeros, 0)).toBe(0x8a9136aa);
  expect(crc32c(Buffer.from(zeros).fill(0xff, 4, 8), 4)).toBe(0x8a9136aa);
  const ascending = Buffer.from(Array.from({ length: 32 }, (_, index) => index));
  const blanked = Buffer.from(ascending).fill(0, 28);
  expect(crc32c(ascending, 28)).toBe(crc32c(blanked, 28));
  expect(crc32c(ascending, 28)).not.toBe(crc32c(ascending, 0));
});
