import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { ClaimFaults } from "../scenario/claim-faults.ts";

/** What the power losses of the chaos runs take back, and what they leave. */
const run = promisify(execFile);
const NONE = (): boolean => false;

let directory: string;
let faults: ClaimFaults;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "claim-faults-"));
  faults = await ClaimFaults.create(directory, 1);
});

afterEach(() => rm(directory, { recursive: true }));

/** Runs it in a process that has the claim as `claim`, and gives back what it prints. */
async function inProcess(body: string): Promise<string> {
  const script = `
import { open, rename, rm } from "node:fs/promises";
import { kill } from "node:process";
const at = (name) => ${JSON.stringify(faults.claim)} + "/" + name;
const syncNames = async () => { const all = await open(at("")); await all.sync(); await all.close(); };
const fill = (letter, length = 1024) => Buffer.alloc(length, letter);
${body}`;
  const path = join(directory, "script.mjs");
  await writeFile(path, script);
  const { stdout } = await run(process.execPath, [path], {
    env: { ...process.env, NODE_OPTIONS: "", ...faults.env },
  });
  return stdout.trim();
}

const content = (name: string): Promise<string> => readFile(join(faults.claim, name), "latin1");

test("bytes that were not synced go, in place and at the end, with whichever call they were written", async () => {
  await inProcess(`
    const file = await open(at("file"), "w+");
    await file.write(fill("a"), 0, 1024, 0);
    await file.datasync();
    await syncNames();
    await file.write(fill("b"), 0, 100, 500);
    await file.write(fill("c"), 0, 1024, 1024);
    await file.writev([fill("d", 10), fill("e", 10)], 10);
    await file.writev([fill("d", 10), fill("e", 10)]);
    await file.appendFile("more");
    await file.truncate(700);`);
  expect(await content("file")).toHaveLength(700);
  await faults.powerLoss(NONE);
  expect(await content("file")).toBe("a".repeat(1024));
  expect(await readdir(faults.claim)).toEqual(["file"]);
});

test("what was synced stays, and so does what the coin says, sector by sector", async () => {
  await inProcess(`
    const file = await open(at("file"), "w+");
    await file.write(fill("a", 2048), 0, 2048, 0);
    await file.datasync();
    await syncNames();
    await file.write(fill("b", 2048), 0, 2048, 0);`);
  let sector = 0;
  await faults.powerLoss(() => sector++ % 2 === 0);
  const sectors = await content("file");
  expect([0, 1, 2, 3].map((at) => sectors[at * 512])).toEqual(["b", "a", "b", "a"]);
});

test("names go that were made, changed or taken away without a sync of the directory, and the old files are back", async () => {
  await inProcess(`
    for (const name of ["kept", "old", "gone"]) {
      const file = await open(at(name), "w");
      await file.writeFile(name);
      await file.sync();
      await file.close();
    }
    await syncNames();
    const file = await open(at("new"), "w");
    await file.writeFile("new");
    await file.sync();
    await rename(at("new"), at("old"));
    await rm(at("gone"));`);
  expect(await readdir(faults.claim)).toEqual(["kept", "old"]);
  expect(await content("old")).toBe("new");
  await faults.powerLoss(NONE);
  expect((await readdir(faults.claim)).sort()).toEqual(["gone", "kept", "old"]);
  expect(await content("old")).toBe("old");
  expect(await content("gone")).toBe("gone");
});

test("another process's sync covers what a killed one has written", async () => {
  await expect(
    inProcess(`
    const file = await open(at("file"), "w+");
    await file.write(fill("a"), 0, 1024, 0);
    kill(process.pid, "SIGKILL");
    await new Promise(() => setInterval(() => undefined, 1000));`),
  ).rejects.toThrow();
  await faults.processEnded();
  expect(faults.isAllDurable).toBe(false);
  await inProcess(`
    const file = await open(at("file"), "r+");
    await file.datasync();
    await syncNames();`);
  await faults.powerLoss(NONE);
  expect(await content("file")).toBe("a".repeat(1024));
  expect(faults.isAllDurable).toBe(true);
});

test("what a failed sync should have written goes although a later one succeeds, but for what was written anew", async () => {
  const setUp = `
    const file = await open(at("file"), "r+").catch(() => open(at("file"), "w+"));`;
  await inProcess(`${setUp}
    await file.write(fill("a"), 0, 1024, 0);
    await file.datasync();
    await syncNames();`);
  await faults.failSync(1);
  const printed = await inProcess(`${setUp}
    await file.write(fill("b"), 0, 1024, 0);
    console.log(await file.datasync().catch((error) => error.code));
    await file.write(fill("c"), 0, 512, 512);
    await file.datasync();`);
  expect(printed).toBe("EIO");
  expect(await faults.failed()).toBe(1);
  await faults.powerLoss(NONE);
  expect(await content("file")).toBe("a".repeat(512) + "c".repeat(512));
});

test("a write fails when it is told to, and others take less than they are given", async () => {
  const write = `
    const file = await open(at("file"), "w+");
    const written = await file.write(fill("a", 4096), 0, 4096, 0).catch((error) => error.code);
    console.log(written.bytesWritten ?? written);`;
  await faults.failWrite(1);
  expect(await inProcess(write)).toBe("EIO");
  // Node goes on where a write took less: only a failure lets it be seen.
  await faults.writeShort(1000);
  await faults.failWrite(2);
  const written = Number(await inProcess(write));
  expect(written).toBeGreaterThan(0);
  expect(written).toBeLessThan(4096);
  expect(written % 512).toBe(0);
  expect(await faults.failed()).toBe(2);
});
