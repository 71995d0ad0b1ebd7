import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { CopiedPrefix } from "./copied-prefix.ts";

test("the mark is where the first piece that is not done begins, whatever the order", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.integer({ min: 1, max: 9 }), fc.boolean()), { minLength: 1, maxLength: 30 }),
      fc.infiniteStream(fc.nat()),
      (pieces, choices) => {
        const prefix = new CopiedPrefix(1000, 50);
        let at = 1000;
        const open = pieces.map(([length, isData]) => {
          const start = at;
          at += length;
          return { start, bytes: isData ? length : 0, length, done: prefix.begin(at, isData ? length : 0) };
        });
        const all = [...open];
        while (open.length > 0) {
          const [piece] = open.splice((choices.next().value as number) % open.length, 1);
          piece?.done();
          const firstOpen = Math.min(at, ...open.map((other) => other.start));
          expect(prefix.mark).toBe(firstOpen);
          const below = all.filter((other) => other.start < firstOpen);
          expect(prefix.bytes).toBe(50 + below.reduce((sum, other) => sum + other.bytes, 0));
        }
        expect(prefix.mark).toBe(at);
      },
    ),
  );
});
