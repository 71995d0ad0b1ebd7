import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { ReadBuffers } from "./read-buffers.ts";

test("nobody is lent what somebody else still has, and no more is kept than the bound", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.boolean(), fc.integer({ min: 0, max: 3_000_000 })), { maxLength: 200 }),
      (steps) => {
        const buffers = new ReadBuffers();
        const lent: Buffer[] = [];
        for (const [takes, number] of steps) {
          if (takes || lent.length === 0) {
            const buffer = buffers.take(number);
            expect(buffer.length).toBeGreaterThanOrEqual(number);
            expect(lent).not.toContain(buffer);
            lent.push(buffer);
          } else {
            const [given] = lent.splice(number % lent.length, 1);
            if (given !== undefined) buffers.give(given);
          }
        }
      },
    ),
  );
});

test("the same buffer comes again, up to 16 MiB of them", () => {
  const buffers = new ReadBuffers();
  const first = buffers.take(5000);
  buffers.give(first);
  expect(buffers.take(8192)).toBe(first);
  const many = Array.from({ length: 20 }, () => buffers.take(1024 * 1024));
  for (const buffer of many) buffers.give(buffer);
  const again = Array.from({ length: 20 }, () => buffers.take(1024 * 1024));
  expect(again.filter((buffer) => many.includes(buffer))).toHaveLength(16);
});

test("buffers of a size that nobody asks for any more make room for those that are used", () => {
  const buffers = new ReadBuffers();
  const small = Array.from({ length: 64 }, () => buffers.take(256 * 1024));
  for (const buffer of small) buffers.give(buffer);
  const large = Array.from({ length: 16 }, () => buffers.take(1024 * 1024));
  for (const buffer of large) buffers.give(buffer);
  const again = Array.from({ length: 16 }, () => buffers.take(1024 * 1024));
  expect(again.filter((buffer) => large.includes(buffer))).toHaveLength(16);
});

test("lends 16 MiB to one, 96 MiB to all, and always something to who has nothing", () => {
  const buffers = new ReadBuffers();
  const lent: Buffer[] = [];
  const takeAll = (): number => {
    let own = 0;
    while (buffers.mayLend(own)) {
      const buffer = buffers.take(1024 * 1024);
      lent.push(buffer);
      own += buffer.length;
    }
    return own / 2 ** 20;
  };
  expect(Array.from({ length: 8 }, takeAll)).toEqual([16, 16, 16, 16, 16, 16, 1, 1]);
  for (const [index, buffer] of lent.entries()) buffers[index % 2 === 0 ? "give" : "forget"](buffer);
  expect(takeAll()).toBe(16);
});
