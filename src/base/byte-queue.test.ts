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
