import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { relocationShare } from "./relocation-share.ts";

const READING = { guestReads: 1, guestRequests: 1, quietMs: 0, filling: 2 };

test("while the guest reads: what fills the link, less what the guest has", () => {
  expect(relocationShare(READING)).toBe(1);
  expect(relocationShare({ ...READING, filling: 4.4 })).toBe(3);
});

test("as many as the guest, where that is more", () => {
  expect(relocationShare({ ...READING, guestReads: 3, guestRequests: 3, filling: 4 })).toBe(3);
  expect(relocationShare({ ...READING, guestRequests: 5 })).toBe(5);
});

test("comes back step by step while the guest is quiet", () => {
  const quiet = { ...READING, guestReads: 0, guestRequests: 0 };
  expect([0, 49, 50, 300].map((quietMs) => relocationShare({ ...quiet, quietMs }))).toEqual([1, 1, 2, 7]);
});

test("all there is where no guest has read, or nothing is known of the link", () => {
  expect(relocationShare({ ...READING, guestReads: 0, quietMs: Number.POSITIVE_INFINITY })).toBe(
    Number.POSITIVE_INFINITY,
  );
  expect(relocationShare({ ...READING, filling: Number.POSITIVE_INFINITY })).toBe(Number.POSITIVE_INFINITY);
});

test("at least one, whatever the guest does", () => {
  const use = fc.record({
    guestReads: fc.nat(300),
    guestRequests: fc.nat(300),
    quietMs: fc.double({ min: 0, noNaN: true }),
    filling: fc.double({ min: 1, noNaN: true }),
  });
  fc.assert(fc.property(use, (each) => relocationShare(each) >= 1));
});
