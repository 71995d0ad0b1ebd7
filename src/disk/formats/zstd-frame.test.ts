import { constants, zstdCompressSync } from "node:zlib";
import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { unpack } from "./unpack.ts";
import { zstdFrameLength } from "./zstd-frame.ts";

test("finds the end of every frame that the library makes, whatever follows", async () => {
  const content = fc.oneof(
    fc.uint8Array({ maxLength: 3000 }),
    fc.integer({ min: 1, max: 400_000 }).map((length) => Buffer.alloc(length, 7)),
    fc
      .integer({ min: 1, max: 400_000 })
      .map((length) => Buffer.from(Array.from({ length }, (_, at) => (at * at) >> 9))),
  );
  const flags = fc.record({ level: fc.constantFrom(1, 3, 19), checksum: fc.boolean(), known: fc.boolean() });
  await fc.assert(
    fc.asyncProperty(content, flags, fc.uint8Array({ maxLength: 600 }), async (bytes, options, rest) => {
      const frame = zstdCompressSync(bytes, {
        params: {
          [constants.ZSTD_c_compressionLevel]: options.level,
          [constants.ZSTD_c_checksumFlag]: options.checksum ? 1 : 0,
          [constants.ZSTD_c_contentSizeFlag]: options.known ? 1 : 0,
        },
        ...(options.known ? { pledgedSrcSize: bytes.length } : {}),
      });
      expect(zstdFrameLength(Buffer.concat([frame, rest]))).toBe(frame.length);
      const unpacked = await unpack("zstd", Buffer.concat([frame, rest]), Math.max(1, bytes.length));
      expect(unpacked.equals(bytes)).toBe(true);
    }),
    { numRuns: 40 },
  );
});

test("what is no whole frame, or unpacks to more than is allowed, is an error", async () => {
  const frame = zstdCompressSync(Buffer.alloc(100_000, 1));
  expect(() => zstdFrameLength(frame.subarray(0, frame.length - 1))).toThrow();
  expect(() => zstdFrameLength(Buffer.alloc(20))).toThrow();
  await expect(unpack("zstd", frame, 99_999)).rejects.toThrow();
});
