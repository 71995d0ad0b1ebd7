import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "@jest/globals";

/** All but types, which are not loaded, and what every command has: Node's own modules, commander, and the signal's file. */
const HEAVY = /^import (?!type )[^;]* from "(?!node:|commander"|\.\.\/termination\.ts")([^"]+)"/gm;

test("no command makes the others wait for what it alone needs", async () => {
  const directory = join(import.meta.dirname, "commands");
  const files = await readdir(directory);
  expect(files.length).toBeGreaterThan(5);
  for (const file of files) {
    const loaded = [...(await readFile(join(directory, file), "utf8")).matchAll(HEAVY)].map(([, module]) => module);
    expect({ file, loaded }).toEqual({ file, loaded: [] });
  }
});
