import { createHash } from "node:crypto";
import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { responsible } from "./rendezvous.ts";

const pack = (number: number): string => createHash("sha256").update(String(number)).digest("hex");
const PACKS = Array.from({ length: 4000 }, (_, number) => pack(number));
const members = fc.uniqueArray(fc.uuid(), { minLength: 1, maxLength: 8 });

test("everybody comes to the same order, however the members are told", () => {
  fc.assert(
    fc.property(members, fc.nat(), (ids, number) => {
      const order = responsible(ids, pack(number));
      expect(responsible([...ids].reverse(), pack(number))).toEqual(order);
      expect([...order].sort()).toEqual([...ids].sort());
    }),
  );
});

test("who comes or goes moves nothing between the others", () => {
  fc.assert(
    fc.property(members, fc.uuid(), fc.nat(), (ids, comes, number) => {
      fc.pre(!ids.includes(comes));
      const after = responsible([...ids, comes], pack(number));
      expect(after.filter((id) => id !== comes)).toEqual(responsible(ids, pack(number)));
    }),
  );
});

test("each member is responsible for about as many packs", () => {
  const ids = Array.from({ length: 8 }, (_, index) => `4f1c0000-0000-4000-8000-00000000000${index}`);
  const shares = new Map(ids.map((id) => [id, 0]));
  for (const each of PACKS) {
    const [first = ""] = responsible(ids, each);
    shares.set(first, (shares.get(first) ?? 0) + 1);
  }
  // 500 each, and a standard deviation of 21.
  for (const share of shares.values()) expect(Math.abs(share - 500)).toBeLessThan(105);
});
