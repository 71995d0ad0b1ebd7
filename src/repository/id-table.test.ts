import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { IdTable } from "./id-table.ts";

/** Few different ones, which differ in their first or their last byte. */
const id = fc
  .tuple(fc.nat(7), fc.nat(7))
  .map(([first, last]) => Buffer.concat([Buffer.alloc(4, first), Buffer.alloc(27), Buffer.of(last)]));

test("a table numbers what is added, keeps the numbers however it grows, and is the same in another thread", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(id), { maxLength: 8 }),
      fc.array(id),
      fc.nat(20),
      fc.boolean(),
      async (lists, asked, room, isShared) => {
        const table = IdTable.withRoom(room, isShared);
        const model = new Map<string, number>();
        for (const list of lists) {
          const numbers = await table.addAll(Buffer.concat(list));
          for (const each of list) {
            const name = each.toString("hex");
            if (!model.has(name)) model.set(name, model.size);
          }
          expect([...numbers]).toEqual(list.map((each) => model.get(each.toString("hex"))));
        }
        expect(table.size).toBe(model.size);
        expect(table.ids.toString("hex")).toBe([...model.keys()].join(""));
        const other = IdTable.from(table.memory);
        for (const each of [...lists.flat(), ...asked]) {
          const number = model.get(each.toString("hex")) ?? -1;
          expect(table.find(Buffer.concat([Buffer.alloc(3), each]), 3)).toBe(number);
          expect(other.find(each)).toBe(number);
          if (number >= 0) expect(other.hex(number)).toBe(each.toString("hex"));
        }
      },
    ),
  );
});

test("it may be looked into while it grows", async () => {
  const ids = Buffer.alloc(32 * 50_000);
  for (let number = 0; number < 50_000; number++) ids.writeUInt32LE(number + 1, number * 32);
  const table = IdTable.withRoom(50_000);
  await table.addAll(ids);
  const growing = table.reserve(100_000);
  let looks = 0;
  let grown = false;
  void growing.then(() => {
    grown = true;
  });
  while (!grown) {
    expect(table.find(ids, (looks % 50_000) * 32)).toBe(looks % 50_000);
    looks++;
    await new Promise((resolve) => setImmediate(resolve));
  }
  expect(table.capacity).toBeGreaterThanOrEqual(150_000);
  expect(table.find(ids, 49_999 * 32)).toBe(49_999);
});

test("there must be room", () => {
  const table = IdTable.withRoom(1);
  table.add(Buffer.alloc(32, 1));
  expect(table.add(Buffer.alloc(32, 1))).toBe(0);
  expect(() => table.add(Buffer.alloc(32, 2))).toThrow(RangeError);
});
