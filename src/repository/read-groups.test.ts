import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { groupRanges } from "./read-groups.ts";

const range = fc.record({
  pack: fc.constantFrom("a", "b"),
  offset: fc.nat(500),
  length: fc.integer({ min: 1, max: 60 }),
});

test("every range is in one group, which covers it; no group is too long, no gap too wide, and none could be joined", () => {
  fc.assert(
    fc.property(fc.array(range), fc.nat(30), fc.integer({ min: 1, max: 200 }), (ranges, gap, most) => {
      const groups = groupRanges(ranges, { gap, most });
      expect(groups.flatMap(({ parts }) => parts)).toHaveLength(ranges.length);
      expect(new Set(groups.flatMap(({ parts }) => parts))).toEqual(new Set(ranges));
      for (const { pack, offset, length, parts } of groups) {
        if (parts.length > 1 && length > most) expect(length).toBe(Math.max(...parts.map((part) => part.length)));
        let end = offset;
        for (const part of parts) {
          expect(part.pack).toBe(pack);
          expect(part.offset - end).toBeLessThanOrEqual(gap);
          end = Math.max(end, part.offset + part.length);
        }
        expect(end).toBe(offset + length);
      }
      for (const [index, group] of groups.entries()) {
        const before = groups[index - 1];
        if (before === undefined || before.pack !== group.pack) continue;
        const first = group.parts[0];
        if (first === undefined) throw new Error("an empty group");
        const joined = Math.max(before.length, first.offset + first.length - before.offset);
        expect(first.offset - (before.offset + before.length) > gap || joined > most).toBe(true);
      }
    }),
  );
});
