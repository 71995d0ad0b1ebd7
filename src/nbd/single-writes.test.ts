import { Duplex } from "node:stream";
import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { SingleWrites } from "./single-writes.ts";

type Done = (error?: Error | null) => void;

/** Takes writes as a socket does: each one ends later, and what waited meanwhile comes together. */
class SlowStream extends Duplex {
  /** The lengths of what came together. */
  readonly writes: number[][] = [];
  readonly taken: Buffer[] = [];
  isStuck = false;

  override _read(): void {
    // Nothing comes.
  }

  override _write(bytes: Buffer, _encoding: string, done: Done): void {
    this.#take([bytes], done);
  }

  override _writev(parts: { chunk: Buffer }[], done: Done): void {
    this.#take(
      parts.map(({ chunk }) => chunk),
      done,
    );
  }

  #take(parts: Buffer[], done: Done): void {
    this.writes.push(parts.map(({ length }) => length));
    this.taken.push(...parts.map((part) => Buffer.from(part)));
    if (!this.isStuck) setImmediate(done);
  }
}

test("everything leaves in order, each part is told once, and nothing large goes together with others", async () => {
  const lengths = fc.array(fc.oneof(fc.integer({ min: 1, max: 200 }), fc.constantFrom(16_383, 16_384, 50_000)), {
    minLength: 1,
    maxLength: 60,
  });
  await fc.assert(
    fc.asyncProperty(lengths, fc.integer({ min: 1, max: 20 }), async (all, burst) => {
      const stream = new SlowStream();
      let left = 0;
      const writes = new SingleWrites(stream, () => left++);
      const expected: Buffer[] = [];
      const sent: number[] = [];
      for (const [index, length] of all.entries()) {
        const bytes = Buffer.alloc(length, index + 1);
        expected.push(Buffer.from(bytes));
        writes.write(bytes, (error) => {
          expect(error ?? undefined).toBeUndefined();
          sent.push(index);
          // From here on it is somebody else's.
          bytes.fill(0);
        });
        if (index % burst === 0) {
          writes.flush();
          await new Promise(setImmediate);
        }
      }
      writes.flush();
      while (sent.length < all.length) await new Promise(setImmediate);
      expect(Buffer.concat(stream.taken).equals(Buffer.concat(expected))).toBe(true);
      expect(sent).toEqual(all.map((_, index) => index));
      expect([writes.isEmpty, writes.unsent, left > 0]).toEqual([true, 0, true]);
      for (const together of stream.writes) {
        const isWithinBounds =
          together.length === 1 ||
          (together.every((length) => length < 16_384) && together.reduce((a, b) => a + b, 0) < 64 * 1024 + 16_384);
        expect([together, isWithinBounds]).toEqual([together, true]);
      }
    }),
    { numRuns: 60 },
  );
});

test("what had not left when the connection broke is nobody's any more", async () => {
  const stream = new SlowStream();
  stream.on("error", () => undefined);
  stream.isStuck = true;
  const writes = new SingleWrites(stream, () => undefined);
  const told: (Error | null | undefined)[] = [];
  for (let index = 0; index < 3; index++) writes.write(Buffer.alloc(100_000), (error) => told.push(error));
  writes.flush();
  expect(writes.unsent).toBe(300_000);
  stream.destroy(new Error("broken"));
  await new Promise((resolve) => stream.once("close", resolve));
  await new Promise(setImmediate);
  // Of the one that was handed over nobody knows.
  expect(told).toEqual([null, null]);
  writes.write(Buffer.alloc(1), (error) => told.push(error));
  expect(told).toEqual([null, null, null]);
});
