import { expect, test } from "@jest/globals";
import { blockStatusChunk, dataHead, doneChunk, errorChunk, holeChunk, parseRequest, simpleReply } from "./messages.ts";
import { CHUNK_DONE } from "./protocol.ts";

// The bytes are those of the NBD protocol's text (doc/proto.md, "Transmission phase" and "Structured reply chunk message").
const COOKIE = 0x0102030405060708n;
const hex = (bytes: Buffer): string => bytes.toString("hex");

test("a request is taken apart, and anything else is none", () => {
  const head = Buffer.from("25609513000100000102030405060708000000000000100000020000", "hex");
  expect(parseRequest(head)).toEqual({ flags: 1, type: 0, cookie: COOKIE, offset: 4096, length: 131_072 });
  head.fill(0xff, 16, 24);
  expect(parseRequest(head)?.offset).toBe(Number.MAX_SAFE_INTEGER);
  head[0] = 0x67;
  expect(parseRequest(head)).toBeUndefined();
});

test("replies are as the protocol has them", () => {
  expect(hex(simpleReply(COOKIE, 5))).toBe("67446698000000050102030405060708");
  expect(hex(doneChunk(COOKIE))).toBe("668e33ef00010000010203040506070800000000");
  expect(hex(dataHead(COOKIE, 0, 4096, 512))).toBe("668e33ef000000010102030405060708000002080000000000001000");
  expect(hex(holeChunk(COOKIE, CHUNK_DONE, 4096, 512))).toBe(
    "668e33ef0001000201020304050607080000000c000000000000100000000200",
  );
  const extents = [
    { length: 4096, flags: 0 },
    { length: 8192, flags: 3 },
  ];
  expect(hex(blockStatusChunk(COOKIE, CHUNK_DONE, 7, extents))).toBe(
    "668e33ef000100050102030405060708000000140000000700001000000000000000200000000003",
  );
  expect(hex(errorChunk(COOKIE, 28, "no"))).toBe("668e33ef000180010102030405060708000000080000001c00026e6f");
});

test("an error's text is cut off, whatever its letters take", () => {
  const reply = errorChunk(COOKIE, 5, "ä".repeat(10_000));
  expect(reply.readUInt32BE(16)).toBe(reply.length - 20);
  expect(reply.readUInt16BE(24)).toBe(reply.length - 26);
  expect(reply.length).toBeLessThan(4096);
});
