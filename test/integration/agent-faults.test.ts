import { execFile } from "node:child_process";
import { chmod, mkdtemp, readFile, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { TestAgent } from "../../src/media-agent/testing/agent-process.ts";
import { NfsFile } from "../../src/media-agent/testing/nfs-file.ts";
import { noise, ResticRepository } from "../../src/repository/testing/restic.ts";

const run = promisify(execFile);
const MIB = 1024 * 1024;
const original = Buffer.concat([noise(12 * MIB, 1), Buffer.alloc(12 * MIB)]);
const disks = [{ name: "root", path: "/disks/root.img", size: original.length }];

let repository: ResticRepository;
let snapshot: string;
let scratch: string;

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), "agent-faults-"));
  repository = await ResticRepository.create(1);
  snapshot = await repository.backUp({ "disks/root.img": original });
}, 180_000);

afterAll(async () => {
  await repository?.remove();
  await rm(scratch, { recursive: true, force: true });
});

async function withAgent(body: (agent: TestAgent) => Promise<void>): Promise<void> {
  const agent = await TestAgent.create({ repository, snapshot, disks });
  try {
    await agent.start();
    await body(agent);
  } finally {
    await agent.remove();
  }
}

async function open(agent: TestAgent, handle?: Buffer): Promise<NfsFile> {
  const [disk] = (await agent.operator.status()).disks;
  return NfsFile.open(agent.address, disk?.exportPath ?? "", handle);
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 200; tries++) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error("it did not come about in ten seconds");
}

/**
 * One writer with a stripe of the disk to itself: it writes one range after the other and remembers what was acknowledged. What
 * was under way when the server died may be old or new, sector by sector.
 */
class Writer {
  readonly #start: number;
  readonly #length: number;
  readonly #acknowledged: Buffer;
  #underWay: { offset: number; bytes: Buffer } | undefined;
  count = 0;

  constructor(start: number, length: number) {
    this.#start = start;
    this.#length = length;
    this.#acknowledged = Buffer.from(original.subarray(start, start + length));
  }

  /** Writes until the connection ends. */
  async run(file: NfsFile): Promise<void> {
    for (;;) {
      this.count++;
      const sectors = 1 + ((this.count * 7) % 60);
      const offset = 512 * ((this.count * 7919) % (this.#length / 512 - sectors));
      const bytes = noise(sectors * 512, this.#start + this.count);
      this.#underWay = { offset, bytes };
      try {
        await file.write(this.#start + offset, bytes);
      } catch {
        return;
      }
      bytes.copy(this.#acknowledged, offset);
      this.#underWay = undefined;
    }
  }

  /** Takes over what is there now of the write that was not answered; everything else must be as it was acknowledged. */
  check(disk: Buffer): void {
    const found = disk.subarray(this.#start, this.#start + this.#length);
    const { offset, bytes } = this.#underWay ?? { offset: 0, bytes: Buffer.alloc(0) };
    for (let at = 0; at < bytes.length; at += 512) {
      const sector = found.subarray(offset + at, offset + at + 512);
      if (sector.equals(bytes.subarray(at, at + 512))) sector.copy(this.#acknowledged, offset + at);
    }
    this.#underWay = undefined;
    expect(found.equals(this.#acknowledged)).toBe(true);
  }
}

test("killed in the middle of writes, it has every acknowledged one, for the handles of before", async () => {
  await withAgent(async (agent) => {
    const stripe = original.length / 4;
    const writers = [0, 1, 2, 3].map((index) => new Writer(index * stripe, stripe));
    let { handle } = await open(agent);
    for (const pause of [150, 400, 700]) {
      const files = await Promise.all(writers.map(() => open(agent, handle)));
      const writing = Promise.all(writers.map((writer, index) => writer.run(files[index] as NfsFile)));
      await new Promise((resolve) => setTimeout(resolve, pause));
      expect(await agent.stop("SIGKILL")).toBe("SIGKILL");
      await writing;
      for (const file of files) file.close();
      // The cache may be lost with the pod; the overlay may not.
      if (pause === 400) await rm(join(agent.directory, "cache"), { recursive: true });
      await agent.start();
      const copy = join(scratch, "copy");
      await rm(copy, { force: true });
      await run("nbdcopy", [agent.nbdUri("root"), copy]);
      const disk = await readFile(copy);
      for (const writer of writers) writer.check(disk);
      handle = Buffer.from(handle);
    }
    expect(Math.min(...writers.map(({ count }) => count))).toBeGreaterThan(5);
    const { dirtyBytes, overlayBytes } = (await agent.operator.status()).disks[0] ?? {};
    expect(dirtyBytes).toBeGreaterThan(0);
    expect(overlayBytes).toBeGreaterThan(0);
  });
}, 180_000);

test("a seal and a frozen generation outlive a kill", async () => {
  await withAgent(async (agent) => {
    const file = await open(agent);
    await file.write(0, noise(4096, 50));
    const generation = await agent.relocation.freezeGeneration("root");
    await file.write(8192, noise(4096, 51));
    await agent.operator.seal("root", 1);
    await agent.stop("SIGKILL");
    file.close();
    await agent.start();
    expect((await agent.operator.status()).disks[0]).toMatchObject({ sealed: true, dirtyBytes: 4096 });
    expect(await agent.relocation.freezeGeneration("root")).toEqual(generation);
    await agent.relocation.dropGeneration("root", generation.id);
    expect(await agent.relocation.freezeGeneration("root")).toEqual({ id: 2, bytes: 4096, final: true });
    const again = await open(agent, file.handle);
    await expect(again.write(0, Buffer.alloc(512))).rejects.toThrow("NFS status 30");
    again.close();
  });
}, 120_000);

test("while the repository is away reads wait, writes go on, and then everything continues", async () => {
  const agent = await TestAgent.create({ repository, snapshot, disks });
  const away = `${repository.directory}-away`;
  try {
    // Nothing is staged, so no pack is open.
    await agent.start({ profile: { boots: 1, disks: [{ name: "root", size: original.length, extents: "" }] } });
    await rename(repository.directory, away);
    const file = await open(agent);
    let answered = 0;
    const reads = [0, 3 * MIB, 7 * MIB, 11 * MIB].map(async (offset) => {
      const read = await file.read(offset, 65_536);
      answered++;
      return read.equals(original.subarray(offset, offset + 65_536));
    });
    await file.write(20 * MIB, noise(4096, 60));
    await until(async () => !(await agent.operator.status()).repository.reachable);
    const { message } = (await agent.operator.status()).repository;
    expect(message).not.toBe("");
    expect(answered).toBe(0);
    await new Promise((resolve) => setTimeout(resolve, 1000));
    await rename(away, repository.directory);
    expect(await Promise.all(reads)).toEqual([true, true, true, true]);
    expect((await agent.operator.status()).repository).toMatchObject({ reachable: true, message: "" });
    file.close();
  } finally {
    await rename(away, repository.directory).catch(() => undefined);
    await agent.remove();
  }
}, 180_000);

test("an agent that starts while the repository is away waits, says so, and then serves", async () => {
  const agent = await TestAgent.create({ repository, snapshot, disks });
  const away = `${repository.directory}-away`;
  await rename(repository.directory, away);
  try {
    await agent.spawn();
    await until(
      async () => (await agent.metricsPort("/readyz").catch(() => undefined))?.text.includes("restic") ?? false,
    );
    const status = await agent.operator.status();
    expect(status).toMatchObject({ serving: false, repository: { reachable: false }, disks: [] });
    await expect(agent.operator.setPhase("Booting")).rejects.toMatchObject({ code: "NOT_SERVING", status: 503 });
    await rename(away, repository.directory);
    await until(async () => (await agent.metricsPort("/readyz")).status === 200);
    const file = await open(agent);
    expect((await file.read(5000, 100)).equals(original.subarray(5000, 5100))).toBe(true);
    file.close();
  } finally {
    await rename(away, repository.directory).catch(() => undefined);
    await agent.remove();
  }
}, 120_000);

test("a repository that may not be written is served unpinned, and that is said", async () => {
  const agent = await TestAgent.create({ repository, snapshot, disks, pin: true });
  // Root may write anywhere, so a file takes the place of the folder of locks.
  const locks = join(repository.directory, "locks");
  await rename(locks, `${locks}-away`);
  await run("touch", [locks]);
  await chmod(locks, 0o400);
  try {
    await agent.start();
    await until(async () => (await agent.operator.status()).repository.pinMessage.startsWith("not pinned:"));
    expect((await agent.operator.status()).repository).toMatchObject({ reachable: true, pinned: false });
    const file = await open(agent);
    expect((await file.read(0, 100)).equals(original.subarray(0, 100))).toBe(true);
    file.close();
  } finally {
    await rm(locks);
    await rename(`${locks}-away`, locks);
    await agent.remove();
  }
}, 120_000);
