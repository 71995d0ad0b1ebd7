import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { EvictionOrder } from "./eviction-order.ts";

class Model {
  readonly entries = new Map<string, { used: number }>();
  readonly ranks = new Map<string, number>();
  readonly order = new EvictionOrder(this.entries, (id) => this.ranks.get(id) ?? 0);
  #uses = 0;

  use(id: string): void {
    this.entries.set(id, { used: ++this.#uses });
  }

  async evict(): Promise<string | undefined> {
    const id = await this.order.next();
    if (id !== undefined) this.entries.delete(id);
    return id;
  }

  /** Those of the lowest rank, the one used longest ago first. */
  get sorted(): string[] {
    const rank = (id: string): number => this.ranks.get(id) ?? 0;
    return [...this.entries]
      .sort(([a, { used: first }], [b, { used: second }]) => rank(a) - rank(b) || first - second)
      .map(([id]) => id);
  }
}

test("by rank, then by use, until nothing is left", async () => {
  const model = new Model();
  for (const id of ["a", "b", "c", "d", "e"]) model.use(id);
  model.ranks.set("a", 2);
  model.ranks.set("c", 1);
  const all: (string | undefined)[] = [];
  for (let count = 0; count < 6; count++) all.push(await model.evict());
  expect(all).toEqual(["b", "d", "e", "c", "a", undefined]);
});

test("what was used, or became precious, since it was chosen is left alone", async () => {
  const model = new Model();
  for (let index = 0; index < 100; index++) model.use(`${index}`);
  expect(await model.evict()).toBe("0");
  model.use("1");
  model.ranks.set("2", 5);
  expect(await model.evict()).toBe("3");
  for (let count = 0; count < 96; count++) await model.evict();
  expect([await model.evict(), await model.evict(), await model.evict()]).toEqual(["1", "2", undefined]);
});

test("many that need room at once get different entries", async () => {
  const model = new Model();
  for (let index = 0; index < 10_000; index++) model.use(`${index}`);
  const victims = await Promise.all(Array.from({ length: 50 }, () => model.order.next()));
  expect(new Set(victims).size).toBe(50);
});

test("exactly the first by rank and use, as long as entries only become more precious", async () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant("use" as const), id: fc.nat(60) }),
    fc.record({ kind: fc.constant("raise" as const), id: fc.nat(60) }),
    fc.record({ kind: fc.constant("evict" as const) }),
  );
  const ranks = fc.array(fc.nat(5), { minLength: 61, maxLength: 61 });
  await fc.assert(
    fc.asyncProperty(ranks, fc.array(step, { maxLength: 150 }), async (initial, steps) => {
      const model = new Model();
      for (const [id, rank] of initial.entries()) {
        model.use(`${id}`);
        model.ranks.set(`${id}`, rank);
      }
      for (const action of steps) {
        const id = "id" in action ? `${action.id}` : "";
        if (action.kind === "use" && model.entries.has(id)) model.use(id);
        if (action.kind === "raise") model.ranks.set(id, Math.min(5, (model.ranks.get(id) ?? 0) + 1));
        if (action.kind === "evict") {
          const [first] = model.sorted;
          expect(await model.evict()).toBe(first);
        }
      }
    }),
  );
});

test("what comes of a lower rank waits for the few that were chosen, not for all others", async () => {
  const model = new Model();
  for (let index = 0; index < 1000; index++) {
    model.use(`${index}`);
    model.ranks.set(`${index}`, 4);
  }
  await model.evict();
  model.use("worthless");
  const victims: (string | undefined)[] = [];
  for (let count = 0; count < 8; count++) victims.push(await model.evict());
  expect(victims).toContain("worthless");
});
