import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "@jest/globals";
import { type Deferred, deferred } from "../../src/base/deferred.ts";
import { TestAgent } from "../../src/media-agent/testing/agent-process.ts";
import { NfsFile } from "../../src/media-agent/testing/nfs-file.ts";
import { BlobPlaces } from "../../src/repository/testing/blob-places.ts";
import { FaultProxy } from "../../src/repository/testing/fault-proxy.ts";
import { RcloneServer } from "../../src/repository/testing/rclone.ts";
import { noise, ResticRepository } from "../../src/repository/testing/restic.ts";

/**
 * Which requests reach a repository that has more to do than it can, and in which order. Each answer with data of the disk is held
 * back until the test lets it go: nothing here depends on how long anything takes.
 */
const MIB = 1024 * 1024;
const PAGE = 4096;
const content = noise(72 * MIB, 1);
const disks = [{ name: "root", path: "/disks/root.img", size: content.length }];
/** The test's agents have so many requests at once; a staged one leaves one of them free. */
const SLOTS = 4;
/** Boots read all of the disk, from its beginning to its end. */
const ALL = {
  boots: 1,
  disks: [{ name: "root", size: content.length, extents: `0+${(content.length / PAGE).toString(36)}` }],
};
const NOTHING = { boots: 1, disks: [{ name: "root", size: content.length, extents: "" }] };

/** A request that has reached the repository, and whose answer is held back. */
interface Held {
  readonly blobs: readonly number[];
  readonly answer: Deferred<void>;
}

let repository: ResticRepository;
let snapshot: string;
let server: RcloneServer;
let places: BlobPlaces;
let scratch: string;
let proxy: FaultProxy;
let agent: TestAgent;
let file: NfsFile;
/** Requests for blobs of the disk, in the order in which they came. */
let sent: Held[];

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), "saturated-"));
  repository = await ResticRepository.create(2);
  snapshot = await repository.backUp({ "disks/root.img": content });
  places = await BlobPlaces.of(repository, snapshot, "/disks/root.img");
  server = await RcloneServer.start(repository.directory);
}, 120_000);

afterAll(async () => {
  await server?.stop();
  await repository?.remove();
  await rm(scratch, { recursive: true, force: true });
});

beforeEach(async () => {
  sent = [];
  proxy = await FaultProxy.start(server.port);
  proxy.fault = (request) => {
    const blobs = places.askedFor(request);
    if (blobs.length === 0) return undefined;
    const held = { blobs, answer: deferred() };
    sent.push(held);
    return { kind: "wait", until: held.answer.promise };
  };
  const remote = { place: { rest: { url: proxy.url } }, credentials: {} };
  agent = await TestAgent.create({ repository, remote, snapshot, disks });
});

afterEach(async () => {
  file?.close();
  await agent.remove();
  await proxy.stop();
});

/** @param profile of what is staged at once */
async function start(profile: typeof ALL): Promise<void> {
  await agent.start({ profile });
  file = await NfsFile.open(agent.address, (await agent.operator.status()).disks[0]?.exportPath ?? "");
}

/** What the guest reads of a blob, compared. Blobs of a disk are no smaller than half a MiB, but for its last. */
async function guestRead(blob: number): Promise<boolean> {
  const offset = (places.offsets[blob] ?? 0) + PAGE;
  return (await file.read(offset, PAGE)).equals(content.subarray(offset, offset + PAGE));
}

/** A blob by its place in the disk, from 0 to 1: how many there are, another polynomial in each repository decides. */
const blobAt = (place: number): number => Math.floor(place * places.offsets.length);

/** The numbers of blobs that were asked for, from the n-th request on. */
const asked = (from = 0): number[] => sent.slice(from).flatMap(({ blobs }) => blobs);

/** What was staged has reached the repository, with all the slots that it may have. */
async function stagingIsStuck(): Promise<void> {
  await until(() => asked().length === SLOTS - 1);
  expect(asked().toSorted()).toEqual([0, 1, 2]);
  expect(await byReason("repository_running")).toEqual(reasons({ boot: SLOTS - 1 }));
}

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await holds())) await delay(5);
}

/** The metrics of that name that have reasons, by reason. */
async function byReason(name: string): Promise<Record<string, number>> {
  const { text } = await agent.metricsPort("/metrics");
  const lines = text.matchAll(new RegExp(`^vmrestore_agent_${name}\\{reason="(\\w+)"\\} (\\S+)$`, "gm"));
  return Object.fromEntries([...lines].map(([, reason, value]) => [reason, Number(value)]));
}

const letAllGo = (): void => {
  proxy.fault = () => undefined;
  for (const { answer } of sent) answer.resolve();
};

test("while staging has every slot it may, a guest's read is sent at once, one after the other, and staging waits", async () => {
  await start(ALL);
  await stagingIsStuck();
  for (const blob of [0.5, 0.9, 0.6, 0.3, 0.75].map(blobAt)) {
    const before = sent.length;
    const read = guestRead(blob);
    await until(() => sent.length > before);
    expect(asked(before)).toEqual([blob]);
    expect(await byReason("repository_running")).toMatchObject({ guest: 1, boot: SLOTS - 1 });
    sent[before]?.answer.resolve();
    // Not one of the staged ones has been answered.
    expect(await read).toBe(true);
  }
  expect(await byReason("repository_wait_seconds_count")).toMatchObject({ guest: 5, boot: SLOTS - 1 });
  letAllGo();
}, 120_000);

test("more guest reads than slots are sent as soon as one request is answered, before anything is staged; the metrics say how long they waited", async () => {
  await start(ALL);
  await stagingIsStuck();
  const stagedFirst = sent.length;
  const begun = performance.now();
  const [one = 0, two = 0, three = 0] = [0.5, 0.7, 0.9].map(blobAt);
  const reads = [one].map(guestRead);
  await until(() => sent.length === stagedFirst + 1);
  reads.push(...[two, three].map(guestRead));
  await until(async () => (await byReason("repository_waiting")).guest === 2);
  const queued = performance.now();
  await delay(150);
  expect(await byReason("repository_waiting")).toEqual(reasons({ guest: 2 }));
  expect(await byReason("repository_running")).toEqual(reasons({ guest: 1, boot: 3 }));
  const heldSeconds = (performance.now() - queued) / 1000;

  for (const { answer } of sent.slice(0, stagedFirst)) answer.resolve();
  await until(async () => (await byReason("repository_waiting")).boot === SLOTS - 1);
  await until(() => asked(stagedFirst).length === 3);
  // The last two may have left at once, over two connections.
  expect([sent[stagedFirst]?.blobs, asked(stagedFirst + 1).toSorted()]).toEqual([[one], [two, three]]);
  // One slot is free: it is not for what is staged.
  expect(await byReason("repository_waiting")).toEqual(reasons({ boot: 3 }));
  expect(await byReason("repository_running")).toEqual(reasons({ guest: 3 }));
  const count = await byReason("repository_wait_seconds_count");
  const sum = await byReason("repository_wait_seconds_sum");
  expect(count).toMatchObject({ guest: 3, boot: 3 });
  expect(sum.guest).toBeGreaterThanOrEqual(2 * heldSeconds);
  expect(sum.guest).toBeLessThanOrEqual((2 * (performance.now() - begun)) / 1000);

  letAllGo();
  expect(await Promise.all(reads)).toEqual([true, true, true]);
  await until(async () => (await agent.operator.status()).bootSet.complete);
  expect(await byReason("repository_waiting")).toEqual(reasons({}));
  expect(await byReason("repository_running")).toEqual(reasons({}));
  const blobs = places.offsets.length;
  expect(await byReason("repository_wait_seconds_count")).toMatchObject({ guest: 3, boot: blobs - 3 });
  // What waited while others were answered is counted too.
  expect((await byReason("repository_wait_seconds_sum")).boot).toBeGreaterThan(0);
}, 120_000);

test("during relocation the guest's requests and the relocation's take turns, and both get on", async () => {
  await start(NOTHING);
  for (const phase of ["Booting", "Ready", "Relocating"] as const) await agent.operator.setPhase(phase);
  const target = join(scratch, "target");
  const copying = promisify(execFile)("nbdcopy", [
    ...["--connections=1", "--requests=16", "--request-size=262144", agent.nbdUri("root"), target],
  ]);
  copying.catch(() => undefined);
  // The copy does not come so far while turns are looked at.
  const firstOfGuest = Math.floor(places.offsets.length * 0.4);
  const wanted = Array.from(places.offsets.keys()).slice(firstOfGuest).values();
  const isRight: boolean[] = [];
  const guests = Array.from({ length: 2 * SLOTS }, async () => {
    for (const blob of wanted) isRight.push(await guestRead(blob));
  });
  const all = Promise.all(guests);
  all.catch(() => undefined);

  let answered = 0;
  let answeredBlobs = 0;
  /** Every slot holds a request that has reached the repository: until one is answered, none is sent. */
  const settled = (): Promise<void> => until(() => asked().length - answeredBlobs === SLOTS);
  const side = (blob: number): "guest" | "copy" => (blob < firstOfGuest ? "copy" : "guest");
  await settled();
  const before = asked().length;
  let last: "guest" | "copy" | undefined;
  let contested = 0;
  while (answered < 16) {
    const waiting = await byReason("repository_waiting");
    const bothWait = (waiting.guest ?? 0) > 0 && (waiting.relocation ?? 0) + (waiting.lead ?? 0) > 0;
    const { blobs = [], answer } = sent[answered++] ?? {};
    const next = asked().length;
    answeredBlobs += blobs.length;
    answer?.resolve();
    await settled();
    const chosen = asked().slice(next).map(side);
    if (last !== undefined && bothWait && chosen.length === 1) {
      contested++;
      expect(chosen).not.toEqual([last]);
    }
    last = chosen.length === 1 ? chosen[0] : undefined;
  }
  expect(contested).toBeGreaterThan(4);
  const sides = asked().slice(before).map(side);
  for (const each of ["guest", "copy"]) expect(sides.filter((one) => one === each).length).toBeGreaterThan(4);
  const { guest = 0, ...others } = await byReason("repository_wait_seconds_count");
  const guestBlobs = asked().filter((blob) => side(blob) === "guest");
  expect(guest).toBe(guestBlobs.length);
  expect(Object.values(others).reduce((sum, count) => sum + count)).toBe(asked().length - guest);

  letAllGo();
  await all;
  expect(isRight.every(Boolean)).toBe(true);
  await copying;
  expect((await readFile(target)).equals(content)).toBe(true);
}, 120_000);

/** Values of all reasons: 0 where none is given. */
function reasons(given: Record<string, number>): Record<string, number> {
  const zero = { guest: 0, relocation: 0, boot: 0, readahead: 0, hydrate: 0, lead: 0, peer: 0, ahead: 0 };
  return { ...zero, ...given };
}
