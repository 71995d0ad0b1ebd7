import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { ByteReader, ByteWriter, TruncatedError } from "./bytes.ts";

test("reads back what was written", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 0xff }),
      fc.integer({ min: 0, max: 0xffff }),
      fc.integer({ min: 0, max: 0xffffffff }),
      fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
      fc.uint8Array({ maxLength: 600 }),
      (a, b, c, d, e) => {
        const writer = new ByteWriter(16);
        writer.u8(a).u16be(b).u32be(c).u64be(d).u32le(c).u64le(d).bytes(e).zeros(3);
        const reader = new ByteReader(writer.finish());
        expect([reader.u8(), reader.u16be(), reader.u32be(), reader.u64be()]).toEqual([a, b, c, d]);
        expect([reader.u32le(), reader.u64le()]).toEqual([c, d]);
        expect(new Uint8Array(reader.bytes(e.length))).toEqual(e);
        expect([...reader.bytes(3)]).toEqual([0, 0, 0]);
        expect(reader.remaining).toBe(0);
      },
    ),
  );
});

test("refuses to read past the end, and does not move then", () => {
  const reader = new ByteReader(Buffer.from([1, 2, 3]));
  expect(() => reader.u32be()).toThrow(TruncatedError);
  expect(reader.offset).toBe(0);
  expect(() => reader.bytes(-1)).toThrow(TruncatedError);
  expect(reader.u16le()).toBe(0x0201);
});
