import { randomUUID } from "node:crypto";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import type { BootProfile } from "../../src/api/boot-profile.ts";
import { TestAgent } from "../../src/media-agent/testing/agent-process.ts";
import { NfsFile } from "../../src/media-agent/testing/nfs-file.ts";
import { BlobPlaces } from "../../src/repository/testing/blob-places.ts";
import { noise, ResticRepository } from "../../src/repository/testing/restic.ts";
import { SlowRepository } from "../bench/slow-repository.ts";

const MIB = 1024 * 1024;
const COUNT = 8;
const image = noise(32 * MIB, 1);
/** Nothing is staged before somebody says so: all of them begin together, however long each took to start. */
const NO_BOOT_SET: BootProfile = { boots: 1, disks: [{ name: "root", size: 1, extents: "" }] };
const LIMIT_MS = 120_000;

let repository: ResticRepository;
let snapshot: string;
/** Of which the image is made. */
let blobs: number;
/** The one link to the repository: it counts what all of them fetch. */
let link: SlowRepository;

beforeAll(async () => {
  repository = await ResticRepository.create(2);
  snapshot = await repository.backUp({ "root.img": image });
  blobs = (await BlobPlaces.of(repository, snapshot, "/root.img")).offsets.length;
  link = await SlowRepository.start(repository.directory, { delayMs: 2, bytesPerSecond: 40e6 });
}, 120_000);

afterAll(async () => {
  await link?.close();
  await repository?.remove();
});

async function agents(count: number): Promise<TestAgent[]> {
  const disks = [{ name: "root", path: "/root.img", size: image.length }];
  const remote = { place: { rest: { url: link.url } }, credentials: {} };
  const made = Array.from({ length: count }, () =>
    TestAgent.create({ repository, snapshot, disks, remote, uid: randomUUID() }),
  );
  return Promise.all(made);
}

/** Starts them, and tells each of the others, as the operator does. */
async function start(group: readonly TestAgent[]): Promise<void> {
  for (const agent of group) await agent.start({ profile: NO_BOOT_SET });
  await Promise.all(group.map((agent) => agent.tellPeers(group)));
}

/** From now on each stages the whole disk. */
async function stage(group: readonly TestAgent[]): Promise<void> {
  await Promise.all(group.map((agent) => agent.operator.setPhase("Ready")));
}

async function until(there: () => Promise<boolean>): Promise<void> {
  for (const end = performance.now() + LIMIT_MS; performance.now() < end; await delay(50)) if (await there()) return;
  throw new Error("it did not come to that");
}

/** Blobs in its cache. */
async function cached(agent: TestAgent): Promise<number> {
  const names = await readdir(join(agent.directory, "cache"));
  return names.filter((name) => /^[0-9a-f]{64}$/.test(name)).length;
}

/** Reads the disk as a guest does, and looks whether it is right. */
async function readAll(agent: TestAgent): Promise<void> {
  const { disks } = await agent.operator.status();
  const file = await NfsFile.open(agent.address, disks[0]?.exportPath ?? "");
  for (let offset = 0; offset < image.length; offset += MIB)
    expect((await file.read(offset, MIB)).equals(image.subarray(offset, offset + MIB))).toBe(true);
  file.close();
}

/** Bytes that go over the link until an agent that is alone has all of the disk. */
async function fetched(): Promise<number> {
  const [alone] = await agents(1);
  if (alone === undefined) throw new Error("no agent");
  try {
    link.takeCounters();
    await start([alone]);
    await stage([alone]);
    await until(async () => (await cached(alone)) === blobs);
    return link.takeCounters().bytes;
  } finally {
    await alone.remove();
  }
}

test("eight agents of one image that begin together fetch it about once, and each has all of it", async () => {
  const once = await fetched();
  const group = await agents(COUNT);
  try {
    link.takeCounters();
    await start(group);
    await stage(group);
    for (const agent of group) await until(async () => (await cached(agent)) === blobs);
    const { bytes } = link.takeCounters();
    for (const agent of group) await readAll(agent);
    // It is 1.1 times that of one; a machine that starves agents for seconds has some of them ask the repository instead.
    expect(bytes).toBeLessThan((COUNT / 2) * once);
    // Nothing more was needed.
    expect(link.takeCounters().bytes).toBeLessThan(0.05 * once);
    const sum = async (what: "bytesTaken" | "bytesGiven"): Promise<number> => {
      const all = await Promise.all(group.map(async (agent) => (await agent.operator.status()).peers?.[what] ?? 0));
      return all.reduce((total, bytes) => total + bytes);
    };
    expect(await sum("bytesTaken")).toBeGreaterThan((COUNT / 2 - 1) * image.length);
    await until(async () => (await sum("bytesGiven")) >= (await sum("bytesTaken")));
  } finally {
    await Promise.all(group.map((agent) => agent.remove()));
  }
}, 300_000);

test("an agent that is killed in the middle makes none of the others fail, and one that comes back has its part again", async () => {
  const group = await agents(4);
  const [first, ...others] = group;
  if (first === undefined) throw new Error("no agent");
  try {
    await start(group);
    await stage(group);
    await until(async () => (await cached(first)) > 4);
    await first.stop("SIGKILL");
    for (const agent of others) {
      await until(async () => (await cached(agent)) === blobs);
      await readAll(agent);
    }
    link.takeCounters();
    await first.start();
    await first.tellPeers(group);
    await readAll(first);
    // The others have all of it.
    expect(link.takeCounters().bytes).toBeLessThan(0.9 * image.length);
    expect((await first.operator.status()).peers?.bytesTaken).toBeGreaterThan(0);
  } finally {
    await Promise.all(group.map((agent) => agent.remove()));
  }
}, 300_000);
