import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { AGENT_PORTS } from "../../src/api/agent-config.ts";
import { silentLogger } from "../../src/base/logging.ts";
import { TestAgent } from "../../src/media-agent/testing/agent-process.ts";
import { NfsFile } from "../../src/media-agent/testing/nfs-file.ts";
import { SmallFileSystem } from "../../src/media-agent/testing/small-file-system.ts";
import { runRelocation } from "../../src/relocation/relocate.ts";
import { noise, ResticRepository } from "../../src/repository/testing/restic.ts";

const MIB = 1024 * 1024;
const PIECE = 65_536;
const SIZE = 12 * MIB;
const names = ["root", "data"] as const;
type Name = (typeof names)[number];
const disks = names.map((name) => ({ name, path: `/disks/${name}.img`, size: SIZE }));
/** For each disk two journals of 8 MiB and its maps, 4 MiB, and of the disks' 24 MiB a fourth. */
const CLAIM = 42 * MIB;

let repository: ResticRepository;
let snapshot: string;
let scratch: string;
let claim: SmallFileSystem;
let agent: TestAgent;

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), "full-overlay-"));
  repository = await ResticRepository.create(1);
  snapshot = await repository.backUp({ "disks/root.img": noise(SIZE, 1), "disks/data.img": noise(SIZE, 2) });
  claim = await SmallFileSystem.create(CLAIM);
  agent = await TestAgent.create({ repository, snapshot, disks, overlayDirectory: claim.path });
  await agent.start();
}, 180_000);

afterAll(async () => {
  await agent?.remove();
  await claim?.remove();
  await repository?.remove();
  await rm(scratch, { recursive: true, force: true });
});

/** A guest that writes its disk from the beginning, piece by piece, and waits for each. */
class Writer {
  readonly name: Name;
  /** What it was told is durable, over the backup. */
  readonly expected: Buffer;
  /** What became of the write that the agent refused or did not answer. */
  ended: Promise<string> = Promise.resolve("not begun");
  written = 0;
  #handle: Buffer | undefined;
  #file: NfsFile | undefined;

  constructor(name: Name) {
    this.name = name;
    this.expected = noise(SIZE, name === "root" ? 1 : 2);
  }

  /** A further connection of the same mount. */
  another(): Promise<NfsFile> {
    return openDisk(this.name, this.#handle);
  }

  async connect(): Promise<void> {
    this.#file = await openDisk(this.name, this.#handle);
    this.#handle = this.#file.handle;
  }

  run(): void {
    this.ended = this.#run().catch((error: unknown) => (error as Error).message);
  }

  close(): void {
    this.#file?.close();
  }

  async #run(): Promise<string> {
    for (; this.written + PIECE <= SIZE; this.written += PIECE) {
      const bytes = noise(PIECE, 100_000 + this.written);
      await this.#file?.write(this.written, bytes);
      bytes.copy(this.expected, this.written);
    }
    return "all was written";
  }
}

async function openDisk(disk: Name, handle?: Buffer): Promise<NfsFile> {
  const found = (await agent.operator.status()).disks.find(({ name }) => name === disk);
  return NfsFile.open(agent.address, found?.exportPath ?? "", handle);
}

async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 600; tries++) {
    if (await holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`not in thirty seconds: ${what}\n${agent.log}`);
}

async function isConverged(name: Name): Promise<boolean> {
  const { disks: all } = await agent.operator.status();
  return all.find((disk) => disk.name === name)?.relocation?.state === "Converged";
}

test("disks on a claim that is full, and is never enlarged, are copied, sealed and cut over beside writes that wait", async () => {
  const writers = names.map((name) => new Writer(name));
  const [root, data] = writers as [Writer, Writer];
  for (const writer of writers) {
    await writer.connect();
    writer.run();
  }
  // Both wait: what one disk's bookkeeping sets free is not for the other's data.
  await until("it is full", async () => (await agent.operator.status()).overlay.full);
  let before = -1;
  await until("nobody gets on", async () => {
    const now = root.written + data.written;
    const stands = now === before;
    before = now;
    await new Promise((resolve) => setTimeout(resolve, 2000));
    return stands;
  });
  expect(before).toBeGreaterThan(2 * MIB);
  expect(before).toBeLessThan(16 * MIB);

  const ended = new AbortController();
  const targets = names.map((name) => ({ name, path: join(scratch, name) }));
  for (const { path } of targets) await mkdir(path);
  const { ca, relocation } = agent.tls;
  const address = { host: agent.address, controlPort: AGENT_PORTS.control, nbdPort: AGENT_PORTS.nbd };
  const relocating = runRelocation(
    { agent: { ...address, tls: { ...relocation, ca } }, disks: targets, verify: true, log: silentLogger },
    ended.signal,
  );
  relocating.catch(() => undefined);
  try {
    await until("root has converged", () => isConverged("root"));
    await until("data has converged", () => isConverged("data"));
    // What the agent keeps of itself has its room, too.
    await agent.operator.setPhase("Relocating");
    await agent.operator.setRelocationLimit(2 ** 30);

    await agent.stop("SIGKILL");
    expect(await Promise.all(writers.map((writer) => writer.ended))).not.toContain("all was written");
    await agent.start();
    for (const writer of writers) {
      writer.close();
      await writer.connect();
      writer.run();
    }
    await until("it is full again", async () => (await agent.operator.status()).overlay.full);
    expect((await agent.operator.status()).overlay.stuck).toBeUndefined();
    // Over what is there it can be written.
    const other = await root.another();
    for (let count = 0; count < 40; count++) {
      await other.write(count * 4096, Buffer.alloc(512, count));
      root.expected.fill(count, count * 4096, count * 4096 + 512);
    }
    other.close();

    for (const writer of writers) {
      await agent.operator.seal(writer.name, 1);
      expect(await writer.ended).toBe("NFS status 30");
    }
    const done = await relocating;
    for (const [index, { name, expected }] of writers.entries()) {
      expect(done[index]?.checksum).toBe(createHash("sha256").update(expected).digest("hex"));
      expect((await readFile(join(scratch, name, "disk.img"))).equals(expected)).toBe(true);
    }
    // Nobody waits any more, and nothing has grown.
    expect((await agent.operator.status()).overlay.full).toBe(false);
    // The way back is open, too: it takes a new export, and a record of that.
    await agent.operator.unseal("root", 1);
    const again = await openDisk("root");
    await again.write(0, Buffer.alloc(4096, 1));
    again.close();
  } finally {
    ended.abort(new Error("the test is over"));
    for (const writer of writers) writer.close();
  }
}, 120_000);
