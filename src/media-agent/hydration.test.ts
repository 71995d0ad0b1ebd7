import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeAll, beforeEach, expect, test } from "@jest/globals";
import type { AgentConfig } from "../api/agent-config.ts";
import { createAuthority } from "../base/certificates.ts";
import { type Clock, systemClock } from "../base/clock.ts";
import { silentLogger } from "../base/logging.ts";
import type { TlsFiles } from "../base/tls-files.ts";
import { LocalBackend } from "../repository/backends/local.ts";
import { noise, ResticRepository } from "../repository/testing/restic.ts";
import { MediaAgent } from "./agent.ts";
import { AgentState } from "./agent-state.ts";
import { KeptDisks } from "./kept-disks.ts";
import { AgentMetrics } from "./metrics.ts";
import { openSource } from "./repository-source.ts";

const MIB = 1024 * 1024;
const GUEST_READ = 128 * 1024;
/** More than is staged for a boot, which is half of the cache. */
const SMALL = noise(44 * MIB, 1);
const CACHE = 64 * MIB;

/** Pauses of minutes take milliseconds, and ten minutes a second. */
const clock: Clock = {
  now: () => Date.now(),
  monotonic: () => 600 * performance.now(),
  sleep: (ms, signal) => systemClock.sleep(Math.min(ms, 20), signal),
};

let tls: TlsFiles;
let scratch: string;
let repository: ResticRepository;

beforeAll(async () => {
  const now = Date.now();
  const authority = await createAuthority("test", { from: new Date(now - 3_600_000), to: new Date(now + 86_400_000) });
  tls = { ...(await authority.issue("agent", ["127.0.0.1"])), ca: authority.ca };
});
beforeEach(async () => {
  scratch = await mkdtemp(join(tmpdir(), "hydration-"));
  repository = await ResticRepository.create(2);
});
const agents: MediaAgent[] = [];
afterEach(async () => {
  for (const agent of agents.splice(0)) await agent.close();
  await repository.remove();
  await rm(scratch, { recursive: true, force: true });
});

/** An agent that serves the disk `root` of a snapshot; nobody asks it to listen. */
async function serve(snapshot: string, size: number, pin = true, format: Format = "raw"): Promise<MediaAgent> {
  const keptDisks = new KeptDisks(join(scratch, "cache/disks"));
  const config: AgentConfig = {
    restore: { namespace: "default", name: "test", uid: "1234" },
    epoch: 1,
    repository: { local: {} },
    snapshot: { id: snapshot, pin },
    disks: [{ name: "root", path: "/root.img", format, size }],
    cache: { sizeBytes: CACHE },
    repositorySlots: 4,
  };
  const [overlayDirectory, cacheDirectory] = [join(scratch, "overlay"), join(scratch, "cache")];
  for (const path of [overlayDirectory, cacheDirectory]) await mkdir(path, { recursive: true });
  const state = await AgentState.open(scratch, { restore: "1234", snapshot, epoch: 1, disks: ["root"] });
  const agent = new MediaAgent({
    config,
    state,
    profile: undefined,
    overlayDirectory,
    cacheDirectory,
    tls,
    clock,
    log: silentLogger,
    metrics: new AgentMetrics(),
    onFatal: (error) => {
      throw error;
    },
  });
  agents.push(agent);
  const backend = (): LocalBackend => new LocalBackend(repository.directory);
  const onWait = (): void => undefined;
  const places = [{ backend, password: () => repository.password }];
  const source = { config, places, keptDisks, clock, log: silentLogger, onWait };
  await agent.serve(await openSource(source, new AbortController().signal));
  return agent;
}

type Format = AgentConfig["disks"][number]["format"];
type Told = ReturnType<MediaAgent["status"]>["repository"];

async function until(agent: MediaAgent, isSo: (told: Told) => boolean): Promise<Told> {
  for (let tries = 0; tries < 500; tries++) {
    const told = agent.status().repository;
    if (isSo(told)) return told;
    await systemClock.sleep(20);
  }
  throw new Error(`it did not come about in ten seconds: ${JSON.stringify(agent.status().repository)}`);
}

/** Reads all of the disk as a guest: where the bytes are right, and where they were refused. Wrong ones are an error. */
async function readAll(agent: MediaAgent, expected: Buffer): Promise<{ right: number; refused: number }> {
  const { overlay } = agent.disk("root");
  const found = { right: 0, refused: 0 };
  for (let offset = 0; offset < expected.length; offset += GUEST_READ) {
    const bytes = await overlay.read(offset, GUEST_READ, "guest").catch(() => undefined);
    if (bytes === undefined) found.refused += GUEST_READ;
    else if (bytes.equals(expected.subarray(offset, offset + GUEST_READ))) found.right += GUEST_READ;
    else throw new Error(`wrong bytes at ${offset}`);
  }
  return found;
}

async function pinOf(): Promise<string> {
  const listed = JSON.parse(await repository.restic(["snapshots", "--json"])) as { id: string; hostname: string }[];
  return listed.find(({ hostname }) => hostname === "vmrestore-pin-1234")?.id ?? "";
}

async function inFormat(disk: Buffer, format: "raw" | "qcow2"): Promise<Buffer> {
  const [from, to] = [join(scratch, "disk.raw"), join(scratch, `disk.${format}`)];
  await writeFile(from, disk);
  if (format !== "raw") await promisify(execFile)("qemu-img", ["convert", "-O", format, from, to]);
  return readFile(to);
}

test.each(["raw", "qcow2"] as const)(
  "snapshot and pin are forgotten: all of a %s disk is fetched, and read rightly when a prune has deleted it, by the next process too",
  async (format) => {
    const snapshot = await repository.backUp({ "root.img": await inFormat(SMALL, format) });
    const agent = await serve(snapshot, SMALL.length, true, format);
    const before = await until(agent, ({ pinned }) => pinned);
    expect(before.hydration).toBeUndefined();
    await repository.restic(["forget", snapshot, await pinOf()]);
    const { hydration, pinned } = await until(agent, (told) => told.hydration?.done === true);
    expect(pinned).toBe(false);
    expect(hydration).toMatchObject({ safe: hydration?.needed, lost: 0, cacheFull: false });
    expect(hydration?.needed).toBeGreaterThanOrEqual(SMALL.length);
    await repository.restic(["prune", "--max-unused", "0"]);
    expect(await repository.files("data")).toEqual([]);
    expect(await readAll(agent, SMALL)).toEqual({ right: SMALL.length, refused: 0 });
    expect(agent.status().repository).toMatchObject({ message: "", hydration: { lost: 0 } });

    await agent.close();
    agents.splice(0);
    const next = await serve(snapshot, SMALL.length, true, format);
    const again = await until(next, (told) => told.hydration?.done === true);
    expect(again.hydration).toEqual(hydration);
    expect(await readAll(next, SMALL)).toEqual({ right: SMALL.length, refused: 0 });
  },
  60_000,
);

test("only the pin is forgotten: it is made again, and that is all", async () => {
  const snapshot = await repository.backUp({ "root.img": SMALL.subarray(0, 4 * MIB) });
  const agent = await serve(snapshot, 4 * MIB);
  await until(agent, ({ pinned }) => pinned);
  const first = await pinOf();
  await repository.restic(["forget", first]);
  let second = "";
  for (let tries = 0; second === "" && tries < 50; tries++) second = await pinOf();
  expect(second).toMatch(/^[0-9a-f]{64}$/);
  expect(second).not.toBe(first);
  expect(agent.status().repository.hydration).toBeUndefined();
}, 180_000);

test("a pack that was away for a moment: everything is fetched, and then there is nothing to tell any more", async () => {
  const snapshot = await repository.backUp({ "root.img": SMALL });
  const agent = await serve(snapshot, SMALL.length);
  await until(agent, ({ pinned }) => pinned && agent.status().bootSet.complete);
  const packs = await repository.files("data");
  for (const pack of packs) await rename(pack, `${pack}.away`);
  const { refused } = await readAll(agent, SMALL);
  expect(refused).toBeGreaterThan(0);
  expect(agent.status().repository.hydration?.needed).toBe(SMALL.length);
  for (const pack of packs) await rename(`${pack}.away`, pack);
  expect(await until(agent, ({ hydration }) => hydration === undefined)).toMatchObject({ pinned: true, message: "" });
  for (const pack of packs) await rename(pack, `${pack}.away`);
  expect(await readAll(agent, SMALL)).toEqual({ right: SMALL.length, refused: 0 });
}, 180_000);

test("pruned before anything could be done: what another snapshot still has is fetched, what is lost is told", async () => {
  const size = 60 * MIB;
  const disk = Buffer.concat([noise(size / 2, 2), noise(size / 2, 3)]);
  const snapshot = await repository.backUp({ "root.img": disk });
  await repository.backUp({ "half.img": disk.subarray(0, size / 2) });
  const agent = await serve(snapshot, size, false);
  await until(agent, () => agent.status().bootSet.complete);
  await repository.restic(["forget", "--prune", "--max-unused", "0", snapshot]);
  // Nobody looks for a pin here: a read finds out.
  const { right, refused } = await readAll(agent, disk);
  expect(right + refused).toBe(size);
  expect(refused).toBeGreaterThan(0);
  const { hydration } = await until(agent, (told) => told.hydration?.done === true);
  if (hydration === undefined) throw new Error("it does not hydrate");
  expect(hydration.needed).toBe(size);
  expect(hydration.safe + hydration.lost).toBe(size);
  expect(hydration.lost).toBeLessThan(size / 2);
  const again = await readAll(agent, disk);
  // A read that touches a lost blob is refused as a whole.
  expect(again.right).toBeGreaterThan(hydration.safe - 64 * GUEST_READ);
  expect(again.right).toBeLessThanOrEqual(hydration.safe);
}, 180_000);

test("a cache that is too small for it: says so, and what it holds is read rightly", async () => {
  const size = 80 * MIB;
  const disk = noise(size, 4);
  const snapshot = await repository.backUp({ "root.img": disk });
  const agent = await serve(snapshot, size);
  await until(agent, ({ pinned }) => pinned);
  await repository.restic(["forget", snapshot, await pinOf()]);
  const { hydration } = await until(agent, (told) => told.hydration?.done === true);
  if (hydration === undefined) throw new Error("it does not hydrate");
  expect(hydration).toMatchObject({ needed: size, lost: 0, cacheFull: true });
  expect(hydration.safe).toBeGreaterThan(CACHE * 0.8);
  expect(hydration.safe).toBeLessThan(CACHE);
  await repository.restic(["prune", "--max-unused", "0"]);
  const { right } = await readAll(agent, disk);
  expect(right).toBeGreaterThan(hydration.safe * 0.9);
}, 180_000);
