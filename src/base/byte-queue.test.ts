import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { ByteQueue } from "./byte-queue.ts";

test("gives back the bytes in order, however they were cut", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 20 })), fc.array(fc.nat(30)), (pushes, takes) => {
      const queue = new ByteQueue();
      for (const piece of pushes) queue.push(Buffer.from(piece));
      let rest = Buffer.concat(pushes);
      for (const take of takes) {
        expect(queue.length).toBe(rest.length);
        if (take > rest.length) {
          expect(() => queue.take(take)).toThrow(RangeError);
          continue;
        }
        expect(queue.peek(take).equals(rest.subarray(0, take))).toBe(true);
        expect(queue.take(take).equals(rest.subarray(0, take))).toBe(true);
        rest = rest.subarray(take);
      }
    }),
  );
});

test("takes some without waiting for the rest", () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ minLength: 1, maxLength: 20 }), { minLength: 1 }),
      fc.integer({ min: 1, max: 30 }),
      (pushes, most) => {
        const queue = new ByteQueue();
        for (const piece of pushes) queue.push(Buffer.from(piece));
        const taken: Buffer[] = [];
        while (queue.length > 0) {
          const some = queue.takeSome(most);
          expect(some.length).toBeGreaterThan(0);
          expect(some.length).toBeLessThanOrEqual(most);
          taken.push(some);
        }
        expect(Buffer.concat(taken).equals(Buffer.concat(pushes))).toBe(true);
        expect(() => queue.takeSome(1)).toThrow(RangeError);
      },
    ),
  );
});
