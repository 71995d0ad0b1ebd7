import { afterAll, beforeAll, expect, test } from "@jest/globals";
import type { AgentStatus } from "../../src/api/agent-control.ts";
import { TestAgent } from "../../src/media-agent/testing/agent-process.ts";
import { NfsFile } from "../../src/media-agent/testing/nfs-file.ts";
import { noise, ResticRepository } from "../../src/repository/testing/restic.ts";

const MIB = 1024 * 1024;
/** Longer than what is staged of a disk that holds nothing known. */
const original = noise(120 * MIB, 1);
const disks = [{ name: "root", path: "/disks/root.img", size: original.length }];
/** Where this guest reads while it boots: beyond the disk's beginning. */
const BOOT_READS = [100, 90, 70, 110, 80].map((at) => at * MIB + 8192);

let repository: ResticRepository;
let snapshot: string;

beforeAll(async () => {
  repository = await ResticRepository.create(2);
  snapshot = await repository.backUp({ "disks/root.img": original });
}, 180_000);

afterAll(() => repository?.remove());

async function staged(agent: TestAgent): Promise<AgentStatus["bootSet"]> {
  for (let tries = 0; tries < 400; tries++) {
    const { bootSet } = await agent.operator.status();
    if (bootSet.complete) return bootSet;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error("the boot set was not staged in twenty seconds");
}

/** Reads as a booting guest does, and gives back the boot set's figures. */
async function boot(agent: TestAgent): Promise<AgentStatus["bootSet"]> {
  await agent.operator.setPhase("Booting");
  const [disk] = (await agent.operator.status()).disks;
  const file = await NfsFile.open(agent.address, disk?.exportPath ?? "");
  for (const offset of BOOT_READS) {
    expect((await file.read(offset, 16_384)).equals(original.subarray(offset, offset + 16_384))).toBe(true);
  }
  file.close();
  await agent.operator.setPhase("Ready");
  return (await agent.operator.status()).bootSet;
}

test("what a boot reads is learned, and staged before the next one", async () => {
  const first = await TestAgent.create({ repository, snapshot, disks });
  const second = await TestAgent.create({ repository, snapshot, disks });
  try {
    await first.start();
    expect(await staged(first)).toMatchObject({ source: "Structure" });
    expect(await boot(first)).toMatchObject({ guestReads: BOOT_READS.length });
    const profile = await first.operator.profile();
    expect(profile?.boots).toBe(1);
    expect(profile?.disks[0]?.extents).toBe(BOOT_READS.map((at) => `${(at / 4096).toString(36)}+4`).join(","));
    await first.stop();
    await first.start();
    expect(await first.operator.profile()).toEqual(profile);

    await second.start(profile === undefined ? {} : { profile });
    const set = await staged(second);
    expect(set.source).toBe("Profile");
    expect(set.bytes).toBe(set.staged);
    expect(set.bytes).toBeLessThan(45 * MIB);
    expect(await boot(second)).toMatchObject({ guestReads: BOOT_READS.length, guestHits: BOOT_READS.length });
    expect((await second.operator.profile())?.boots).toBe(2);
  } finally {
    await Promise.all([first.remove(), second.remove()]);
  }
}, 180_000);

test("once the guest is up the rest of the disk is staged ahead of the relocation", async () => {
  const agent = await TestAgent.create({ repository, snapshot, disks, cacheBytes: 128 * MIB });
  try {
    await agent.start({ profile: { boots: 1, disks: [{ name: "root", size: original.length, extents: "0+1" }] } });
    await staged(agent);
    const lead = async (): Promise<number> => {
      const { text } = await agent.metricsPort("/metrics");
      return Number(/^vmrestore_agent_lead_bytes (\S+)$/m.exec(text)?.[1]);
    };
    expect(await lead()).toBe(0);
    await agent.operator.setPhase("Booting");
    await agent.operator.setPhase("Ready");
    // The window: four tenths of the cache.
    for (let tries = 0; tries < 200 && (await lead()) < 40 * MIB; tries++) {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    expect(await lead()).toBeGreaterThan(40 * MIB);
    expect(await lead()).toBeLessThanOrEqual(0.4 * 128 * MIB);
    await agent.operator.setPhase("Relocating");
    const [disk] = (await agent.operator.status()).disks;
    expect(disk?.dirtyBytes).toBe(0);
  } finally {
    await agent.remove();
  }
}, 180_000);
