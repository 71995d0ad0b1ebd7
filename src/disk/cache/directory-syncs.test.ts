import { expect, test } from "@jest/globals";
import { type Deferred, deferred } from "../../base/deferred.ts";
import { DirectorySyncs } from "./directory-syncs.ts";

test("one sync covers all names that were there when it began, and no other", async () => {
  const running: Deferred<void>[] = [];
  const syncs = new DirectorySyncs("directory", () => {
    const sync = deferred<void>();
    running.push(sync);
    return sync.promise;
  });
  const covered: string[] = [];
  const cover = (name: string, number: number): Promise<void> =>
    syncs.cover(number).then(() => void covered.push(name));
  const all = [cover("earlier", 0)];
  for (const name of ["a", "b"]) all.push(cover(name, syncs.given()));
  expect(running).toHaveLength(1);
  running[0]?.resolve();
  await new Promise(setImmediate);
  expect(covered).toEqual(["earlier"]);
  expect(running).toHaveLength(2);
  running[1]?.resolve();
  await Promise.all(all);
  expect(covered).toEqual(["earlier", "a", "b"]);
  await syncs.cover(1);
  expect(running).toHaveLength(2);
});

test("whoever waits is told of a sync that failed, and the next one is another", async () => {
  let fails = true;
  const syncs = new DirectorySyncs("directory", async () => {
    if (fails) throw new Error("no");
  });
  await expect(syncs.cover(0)).rejects.toThrow("no");
  fails = false;
  await syncs.cover(0);
});
