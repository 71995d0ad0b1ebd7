import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { TestAgent } from "../../src/media-agent/testing/agent-process.ts";
import { NfsFile } from "../../src/media-agent/testing/nfs-file.ts";
import { noise, ResticRepository } from "../../src/repository/testing/restic.ts";

const MIB = 1024 * 1024;
const DISKS = 8;
const image = noise(40 * MIB, 1);
const names = Array.from({ length: DISKS }, (_, index) => `disk${index}`);
/** Data, a long hole, data: only what is beyond the part that is staged of any disk is of interest. */
const large = Buffer.concat([noise(4 * MIB, 2), Buffer.alloc(256 * MIB), noise(48 * MIB, 3)]);
/** No boot reads anything. */
const NO_BOOT_SET = { boots: 1, disks: [...names, "large"].map((name) => ({ name, size: 1, extents: "" })) };

let repository: ResticRepository;
let shared: string;
let alone: string;

beforeAll(async () => {
  repository = await ResticRepository.create(2);
  shared = await repository.backUp(Object.fromEntries(names.map((name) => [`disks/${name}.img`, image])));
  alone = await repository.backUp({ "disks/large.img": large });
}, 120_000);

afterAll(() => repository?.remove());

async function open(agent: TestAgent, disk: string): Promise<NfsFile> {
  const { disks } = await agent.operator.status();
  return NfsFile.open(agent.address, disks.find(({ name }) => name === disk)?.exportPath ?? "");
}

async function readAll(file: NfsFile, content: Buffer, from = 0, to = content.length): Promise<void> {
  for (let offset = from; offset < to; offset += MIB) {
    expect((await file.read(offset, MIB)).equals(content.subarray(offset, offset + MIB))).toBe(true);
  }
}

async function metric(agent: TestAgent, name: string): Promise<number> {
  const { text } = await agent.metricsPort("/metrics");
  const line = text.split("\n").find((candidate) => candidate.startsWith(`vmrestore_agent_${name} `));
  return Number(line?.split(" ").at(-1) ?? 0);
}

test("eight disks of one agent, all of one image, are fetched once; the cache is warm after a restart, and damage in it is mended", async () => {
  const disks = names.map((name) => ({ name, path: `/disks/${name}.img`, size: image.length }));
  const agent = await TestAgent.create({ repository, snapshot: shared, disks });
  try {
    await agent.start({ profile: NO_BOOT_SET });
    const before = await metric(agent, "repository_fetched_bytes");
    const readers = await Promise.all(names.map((name) => open(agent, name)));
    await Promise.all(readers.map((reader) => readAll(reader, image)));
    for (const reader of readers) reader.close();
    const fetched = (await metric(agent, "repository_fetched_bytes")) - before;
    expect(fetched).toBeGreaterThan(0.9 * image.length);
    expect(fetched).toBeLessThan(1.1 * image.length);

    await agent.stop();
    const cache = join(agent.directory, "cache");
    const entries = (await readdir(cache)).filter((name) => /^[0-9a-f]{64}$/.test(name));
    expect(entries.length).toBeGreaterThan(10);
    const damaged = entries.slice(0, 5);
    for (const name of damaged) {
      const content = await readFile(join(cache, name));
      content.writeUInt8(content.readUInt8(1000) ^ 1, 1000);
      await writeFile(join(cache, name), content);
    }
    await agent.start();
    const again = await metric(agent, "repository_fetched_bytes");
    const reader = await open(agent, "disk3");
    await readAll(reader, image);
    reader.close();
    expect(await metric(agent, "cache_corrupted_total")).toBe(damaged.length);
    // Those five, and nothing else.
    expect((await metric(agent, "repository_fetched_bytes")) - again).toBeLessThan(
      (damaged.length / 10) * image.length,
    );
    expect((await readdir(cache)).filter((name) => damaged.includes(name))).toHaveLength(damaged.length);
  } finally {
    await agent.remove();
  }
}, 120_000);

test("a guest's sequence is read ahead of; a live migration's copy is told from it, and staged in front of", async () => {
  const disks = [{ name: "large", path: "/disks/large.img", size: large.length }];
  const agent = await TestAgent.create({ repository, snapshot: alone, disks });
  const guestReads = 'disk_reads_total{disk="large",class="guest"}';
  const copyReads = 'disk_reads_total{disk="large",class="relocation"}';
  const readahead = 'repository_fetches_total{reason="readahead",result="success"}';
  const lead = 'repository_fetches_total{reason="lead",result="success"}';
  try {
    await agent.start({ profile: NO_BOOT_SET });
    const file = await open(agent, "large");
    // Long enough that not every blob is asked for by the guest's own read in the moment when it was to be read ahead.
    const start = 240 * MIB;
    for (let offset = start; offset < start + 26 * MIB; offset += 131_072) {
      expect((await file.read(offset, 131_072)).equals(large.subarray(offset, offset + 131_072))).toBe(true);
    }
    expect(await metric(agent, readahead)).toBeGreaterThan(1);
    expect(await metric(agent, copyReads)).toBe(0);

    await agent.operator.setPhase("Relocating");
    const guests = await metric(agent, guestReads);
    await readAll(file, large, 0, 264 * MIB);
    expect((await metric(agent, guestReads)) - guests).toBeLessThanOrEqual(130);
    expect(await metric(agent, copyReads)).toBeGreaterThanOrEqual(130);
    for (let tries = 0; tries < 600 && (await metric(agent, "lead_bytes")) < 30 * MIB; tries++) {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    expect(await metric(agent, lead)).toBeGreaterThan(5);
    expect(await metric(agent, "lead_bytes")).toBeGreaterThan(30 * MIB);
    await readAll(file, large, 264 * MIB);
    file.close();
  } finally {
    await agent.remove();
  }
}, 120_000);
