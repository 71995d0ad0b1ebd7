import { buffer } from "node:stream/consumers";
import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { StableWrites } from "./stable-writes.ts";

interface Call {
  readonly program: number;
  readonly version: number;
  readonly procedure: number;
  readonly stable: number;
  readonly credential: number;
  readonly handle: number;
  readonly data: Uint8Array;
}

function opaque(length: number): Buffer {
  return Buffer.concat([word(length), Buffer.alloc(Math.ceil(length / 4) * 4, 0xab)]);
}

function word(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
}

function record(call: Call): Buffer {
  const body = Buffer.concat([
    ...[word(7), word(0), word(2), word(call.program), word(call.version), word(call.procedure)],
    ...[word(1), opaque(call.credential), word(0), opaque(0)],
    ...[opaque(call.handle), word(0), word(4096), word(call.data.length), word(call.stable)],
    ...[word(call.data.length), Buffer.from(call.data), Buffer.alloc((4 - (call.data.length % 4)) % 4)],
  ]);
  return Buffer.concat([word(0x80000000 | body.length), body]);
}

async function through(stream: Buffer, cuts: readonly number[]): Promise<Buffer> {
  const filter = new StableWrites();
  const result = buffer(filter);
  let at = 0;
  for (let index = 0; at < stream.length; index++) {
    const end = Math.min(stream.length, at + Math.max(1, cuts[index % cuts.length] ?? 1));
    filter.write(stream.subarray(at, end));
    at = end;
  }
  filter.end();
  return result;
}

const call = fc.record({
  program: fc.constantFrom(100003, 100003, 100005),
  version: fc.constantFrom(3, 3, 4),
  procedure: fc.constantFrom(7, 7, 7, 6, 21),
  stable: fc.constantFrom(0, 1, 2),
  credential: fc.integer({ min: 0, max: 400 }),
  handle: fc.integer({ min: 0, max: 64 }),
  data: fc.uint8Array({ maxLength: 3000 }),
});

test("every WRITE asks for FILE_SYNC, everything else passes as it is, however the stream is cut", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(call, { maxLength: 5 }),
      fc.array(fc.integer({ min: 1, max: 900 }), { minLength: 1, maxLength: 5 }),
      async (calls, cuts) => {
        const wanted = calls.map((one) => {
          const isWrite = one.program === 100003 && one.version === 3 && one.procedure === 7;
          return record(isWrite && one.stable === 0 ? { ...one, stable: 2 } : one);
        });
        const got = await through(Buffer.concat(calls.map(record)), cuts);
        expect(got.equals(Buffer.concat(wanted))).toBe(true);
      },
    ),
    { numRuns: 200 },
  );
});

test("what is no call passes as it is", async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 2000 }), async (bytes) => {
      const body = Buffer.from(bytes);
      // Not a call: a reply, whatever follows.
      if (body.length >= 8) body.writeUInt32BE(1, 4);
      const stream = Buffer.concat([word(0x80000000 | body.length), body]);
      expect((await through(stream, [7, 100])).equals(stream)).toBe(true);
    }),
  );
});
