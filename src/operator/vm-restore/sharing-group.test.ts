import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { PEERS_LIMIT } from "../../api/peers.ts";
import { type Sharer, sharingGroup } from "./sharing-group.ts";

function sharer(uid: string, change: Partial<Sharer> = {}): Sharer {
  return { uid, created: 0, repositories: ["r"], snapshot: "s", isOver: false, ...change };
}

const sharers = fc
  .uniqueArray(
    fc.record({
      uid: fc.uuid(),
      created: fc.nat(3),
      repositories: fc.constantFrom(["r"], ["s"], ["r", "s"], []),
      snapshot: fc.constantFrom("", "a", "b"),
      isOver: fc.boolean(),
    }),
    { selector: ({ uid }) => uid, minLength: 1, maxLength: 40 },
  )
  .chain((all) => fc.record({ all: fc.constant(all), own: fc.constantFrom(...all) }));

test("every member comes to the same group, of those that read the same and are not over, and of a bounded size", () => {
  fc.assert(
    fc.property(sharers, ({ all, own }) => {
      const others = sharingGroup(own.uid, all);
      expect(others.length).toBeLessThan(PEERS_LIMIT);
      const group = [own.uid, ...others].sort();
      for (const uid of others) {
        const other = all.find((each) => each.uid === uid);
        expect(other).toMatchObject({ isOver: false, repositories: own.repositories });
        expect([uid, ...sharingGroup(uid, [...all].reverse())].sort()).toEqual(group);
      }
      if (own.isOver) expect(others).toEqual([]);
    }),
  );
});

test("another repository, even beside the same one, is another group", () => {
  const all = [sharer("a"), sharer("b"), sharer("c", { repositories: ["r", "s"] }), sharer("d", { isOver: true })];
  expect(all.map(({ uid }) => sharingGroup(uid, all))).toEqual([["b"], ["a"], [], []]);
});

test("of many, those of one snapshot come together, and who is added last changes no other group", () => {
  const of = (snapshot: string, count: number) =>
    Array.from({ length: count }, (_, created) => sharer(`${snapshot}${created}`, { snapshot, created }));
  const all = [...of("b", 12), ...of("a", 8)];
  expect(sharingGroup("a0", all)).toEqual(["a1", "a2", "a3", "a4", "a5", "a6", "a7"]);
  expect(sharingGroup("b8", all)).toEqual(["b9", "b10", "b11"]);
  const more = [...all, sharer("late", { snapshot: "b", created: 99 })];
  expect(sharingGroup("a0", more)).toEqual(sharingGroup("a0", all));
  expect(sharingGroup("b0", more)).toEqual(sharingGroup("b0", all));
  expect(sharingGroup("b8", more)).toEqual(["b9", "b10", "b11", "late"]);
});
