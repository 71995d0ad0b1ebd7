import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { BlockCache } from "../../src/disk/cache/block-cache.ts";
import { KeptDisks } from "../../src/media-agent/kept-disks.ts";
import { ClaimFaults } from "../scenario/claim-faults.ts";
import { random } from "../scenario/random.ts";

/** What the cache tells to be durable, when the power fails right after. */
const run = promisify(execFile);
const LIMIT = 64e6;
const LENGTH = 20_000;
const ENTRIES = 24;

let directory: string;
let faults: ClaimFaults;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "cache-power-"));
  faults = await ClaimFaults.create(directory, 1);
});
afterEach(() => rm(directory, { recursive: true }));

const id = (index: number): string => index.toString(16).padStart(64, "0");
const content = (index: number): Buffer => Buffer.alloc(LENGTH, String.fromCharCode(97 + index));

/** Runs it in a process that has the cache open, and dies without closing it; gives back what it prints. */
async function inProcess(body: string): Promise<string> {
  const script = `
import { BlockCache } from ${JSON.stringify(new URL("../../src/disk/cache/block-cache.ts", import.meta.url).href)};
const cache = await BlockCache.open(${JSON.stringify(faults.claim)}, ${LIMIT}, () => 0);
const id = (index) => index.toString(16).padStart(64, "0");
const content = (index) => Buffer.alloc(${LENGTH}, String.fromCharCode(97 + index));
const all = Array.from({ length: ${ENTRIES} }, (_, index) => index);
${body}
process.kill(process.pid, "SIGKILL");`;
  const path = join(directory, "script.mjs");
  await writeFile(path, script);
  const env = { ...process.env, NODE_OPTIONS: "", ...faults.env };
  const { stdout } = await run(process.execPath, [path], { env }).catch((error: { stdout: string }) => error);
  return stdout.trim();
}

/** Which entries are there, with their bytes. */
async function intact(): Promise<number[]> {
  const cache = await BlockCache.open(faults.claim, LIMIT, () => 0);
  const found: number[] = [];
  for (let index = 0; index < ENTRIES; index++) {
    if ((await cache.read(id(index), 0, LENGTH))?.equals(content(index)) === true) found.push(index);
  }
  await cache.close();
  return found;
}

const PUT_ALL = "await Promise.all(all.map((index) => cache.put(id(index), content(index))));";
const TELL =
  "process.stdout.write(JSON.stringify(all.filter((index) => cache.isDurable(id(index)))), () => undefined);";
const EVEN = Array.from({ length: ENTRIES / 2 }, (_, index) => 2 * index);

test.each([1, 2, 3])(
  "seed %i: what was made durable outlasts it, whatever becomes of the rest",
  async (seed) => {
    const coin = random(seed);
    const told = await inProcess(
      `${PUT_ALL} await Promise.all(all.filter((index) => index % 2 === 0).map((index) => cache.makeDurable(id(index)))); ${TELL}`,
    );
    expect(JSON.parse(told)).toEqual(EVEN);
    await faults.powerLoss(() => coin() < 0.5);
    const left = await intact();
    expect(left).toEqual(expect.arrayContaining(EVEN));
    expect(left.length).toBeLessThan(ENTRIES);
  },
  60_000,
);

test("so does what an earlier process put there", async () => {
  expect(await inProcess(PUT_ALL)).toBe("");
  await faults.processEnded();
  const told = await inProcess(`await Promise.all(all.map((index) => cache.makeDurable(id(index)))); ${TELL}`);
  expect(JSON.parse(told)).toHaveLength(ENTRIES);
  await faults.powerLoss(() => false);
  expect(await intact()).toHaveLength(ENTRIES);
}, 60_000);

test("what the power took before is not told to be durable", async () => {
  const coin = random(5);
  await inProcess(PUT_ALL);
  await faults.powerLoss(() => coin() < 0.95);
  const told = await inProcess(`await Promise.all(all.map((index) => cache.makeDurable(id(index)))); ${TELL}`);
  await faults.powerLoss(() => false);
  expect(JSON.parse(told)).toEqual(await intact());
  expect(JSON.parse(told).length).toBeLessThan(ENTRIES);
}, 60_000);

test("nor is what could not be synced, though the next sync of it would succeed", async () => {
  await faults.failSync(1);
  const told = await inProcess(
    `await cache.put(id(0), content(0)); await cache.makeDurable(id(0)); await cache.makeDurable(id(0)); ${TELL}`,
  );
  expect(JSON.parse(told)).toEqual([]);
  expect(await faults.failed()).toBe(1);
}, 60_000);

test("of which blobs the disks are made outlasts it", async () => {
  const kept = `
const { KeptDisks } = await import(${JSON.stringify(new URL("../../src/media-agent/kept-disks.ts", import.meta.url).href)});
await new KeptDisks(${JSON.stringify(faults.claim)}).save(id(1), []);`;
  await inProcess(kept);
  await faults.powerLoss(() => false);
  expect(await new KeptDisks(faults.claim).load(id(1))).toEqual([]);
}, 60_000);
