import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { cachedBuild } from "./recipe-cache.ts";

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "recipe-cache-"));
});

afterEach(() => rm(directory, { recursive: true, force: true }));

test("one build per recipe", async () => {
  let builds = 0;
  const build = async (_scratch: string, output: string): Promise<void> => {
    builds += 1;
    await writeFile(output, `build ${builds}`);
  };
  const first = await cachedBuild({ directory, name: "guest", recipe: "a" }, build);
  expect(await cachedBuild({ directory, name: "guest", recipe: "a" }, build)).toBe(first);
  const other = await cachedBuild({ directory, name: "guest", recipe: "b" }, build);
  expect(other).not.toBe(first);
  expect([await readFile(first, "utf8"), await readFile(other, "utf8")]).toEqual(["build 1", "build 2"]);
});

test("a failed build leaves nothing behind", async () => {
  const build = async (_scratch: string, output: string): Promise<void> => {
    await writeFile(output, "half");
    throw new Error("no network");
  };
  await expect(cachedBuild({ directory, name: "guest", recipe: "a" }, build)).rejects.toThrow("no network");
  expect(await readdir(directory)).toEqual([]);
});
