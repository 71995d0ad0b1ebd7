import { expect, test } from "@jest/globals";
import type { Extent } from "../../disk/block-device.ts";
import { turnsDuring } from "../testing/turns.ts";
import { BudgetSpentError } from "./bounded-disk.ts";
import { type FileTree, findFiles, type Look, type TreeNode } from "./file-tree.ts";

interface Node extends TreeNode {
  readonly number: number;
}

/** `/a/x`, `/b/y` and `/c`: an inode lies at ten times its number, what it holds at a thousand times. */
const ENTRIES = new Map([
  [1, new Map(Object.entries({ a: 2, b: 3, c: 4 }))],
  [2, new Map([["x", 5]])],
  [3, new Map([["y", 6]])],
]);
const LOOKS: readonly Look[] = ["/a", "/b", "/none", "/c"].map((path) => ({ path, files: /./ }));

function tree(reading: (directory: number) => Promise<void>): FileTree<Node> {
  const content = (number: number): Extent => ({ offset: number * 1000, length: 1 });
  return {
    root: 1,
    node: async (number) => ({
      number,
      kind: ENTRIES.has(number) ? "directory" : "file",
      size: 1,
      place: { offset: number * 10, length: 1 },
    }),
    directory: async ({ number }) => {
      await reading(number);
      return { entries: ENTRIES.get(number) ?? new Map(), extents: [content(number)] };
    },
    extents: async function* ({ number }) {
      yield content(number);
    },
  };
}

async function collect(found: AsyncIterable<Extent>, into: number[] = []): Promise<number[]> {
  for await (const { offset } of found) into.push(offset);
  return into;
}

const EVERYTHING = [10, 1000, 20, 2000, 50, 5000, 30, 3000, 60, 6000, 40];

test("directories of different looks are read side by side", async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  const read: number[] = [];
  const found = findFiles(
    tree(async (directory) => {
      read.push(directory);
      if (directory === 3) resolve();
      // The first look's waits for the second's.
      if (directory === 2) await promise;
    }),
    LOOKS,
  );
  expect(await collect(found)).toEqual(EVERYTHING);
  expect(read).toEqual([1, 2, 3]);
});

test("what is found comes in the order of the looks, whichever directory is read first", async () => {
  for (const slow of [1, 2, 3]) {
    const found = findFiles(
      tree(async (directory) => {
        for (let turn = 0; directory === slow && turn < 5; turn++) await new Promise(setImmediate);
      }),
      LOOKS,
    );
    expect(await collect(found)).toEqual(EVERYTHING);
  }
});

test("a directory that cannot be read takes nothing away that comes before it", async () => {
  const found: number[] = [];
  const damaged = findFiles(
    tree(async (directory) => {
      if (directory === 3) throw new Error("damaged");
    }),
    LOOKS,
  );
  await expect(collect(damaged, found)).rejects.toThrow("damaged");
  expect(found).toEqual([10, 1000, 20, 2000, 50, 5000]);
});

/** `/a` holds directories, each with 8000 names of nothing. */
function wide(directories: number): FileTree<Node> {
  const names = new Map(Array.from({ length: 8000 }, (_, index) => [`x${index}`, 1_000_000 + index]));
  const top = new Map(Array.from({ length: directories }, (_, index) => [`d${index}`, 10 + index]));
  return {
    root: 1,
    node: async (number) =>
      number < 1_000_000 ? { number, kind: "directory", size: 1, place: { offset: number, length: 1 } } : undefined,
    directory: async ({ number }) => ({
      entries: number === 1 ? new Map([["a", 2]]) : number === 2 ? top : new Map(names),
      extents: [],
    }),
    async *extents() {},
  };
}

test("directories with millions of names end within a bound, and let others have their turn", async () => {
  const found: number[] = [];
  const walk = collect(findFiles(wide(500), [{ path: "/a", files: /./, depth: 1 }]), found);
  const turns = await turnsDuring(walk);
  await expect(walk).rejects.toThrow(BudgetSpentError);
  expect(found.length).toBeGreaterThan(20);
  expect(found.length).toBeLessThan(100);
  expect(turns).toBeGreaterThan(100);
});
