import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { TestAgent, type TestAgentOptions } from "../../src/media-agent/testing/agent-process.ts";
import { NfsFile } from "../../src/media-agent/testing/nfs-file.ts";
import { SmallFileSystem } from "../../src/media-agent/testing/small-file-system.ts";
import { RcloneServer } from "../../src/repository/testing/rclone.ts";
import { noise, ResticRepository } from "../../src/repository/testing/restic.ts";

const MIB = 1024 * 1024;
const original = noise(24 * MIB, 1);
/** In no blob with the disk's first or last bytes, which tell its format: a blob has 8 MiB at most. */
const FAR = 9 * MIB;
const disks = [{ name: "root", path: "/disks/root.img", size: original.length }];
/** Nothing is staged, so everything has to be fetched. */
const profile = { boots: 1, disks: [{ name: "root", size: original.length, extents: "" }] };

let repository: ResticRepository;
let server: RcloneServer;
let snapshot: string;

beforeAll(async () => {
  repository = await ResticRepository.create(1);
  snapshot = await repository.backUp({ "disks/root.img": original }, ["--pack-size", "4"]);
  server = await RcloneServer.start(repository.directory, ["--user", "waiting", "--pass", "waiting"]);
}, 180_000);

afterAll(async () => {
  await server?.stop();
  await repository?.remove();
});

async function withAgent(options: Partial<TestAgentOptions>, body: (agent: TestAgent) => Promise<void>): Promise<void> {
  const remote = {
    place: { rest: { url: `http://127.0.0.1:${server.port}` } },
    credentials: { "http-username": "waiting", "http-password": "waiting" },
  };
  const agent = await TestAgent.create({ repository, remote, snapshot, disks, ...options });
  try {
    await agent.start({ profile });
    await body(agent);
  } finally {
    await agent.remove();
    release();
  }
}

async function openDisk(agent: TestAgent, handle?: Buffer): Promise<NfsFile> {
  const [disk] = (await agent.operator.status()).disks;
  return NfsFile.open(agent.address, disk?.exportPath ?? "", handle);
}

async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 400; tries++) {
    if (await holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`not in twenty seconds: ${what}`);
}

/** Nothing is answered from then on, and no connection is refused: as a file server that is dead behaves. */
function hang(): void {
  server.pause();
}

/** What was asked meanwhile is answered. */
function release(): void {
  server.resume();
}

async function memoryBytes(pid: number | undefined): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) * 1024;
}

async function metric(agent: TestAgent, name: string): Promise<number> {
  const { text } = await agent.metricsPort("/metrics");
  return Number(new RegExp(`^${name} (\\S+)$`, "m").exec(text)?.[1]);
}

test("a repository that hangs: small writes do not wait, reads do, and go on when it is back", async () => {
  await withAgent({}, async (agent) => {
    const file = await openDisk(agent);
    hang();
    const expected = Buffer.from(original);
    let answered = 0;
    // Not one after the other: those that are read at once lie in different packs.
    const places = Array.from({ length: 24 }, (_, index) => ((index * 7) % 24) * MIB + 12_288);
    const reads = places.map(async (offset) => {
      const content = await file.read(offset, 8192);
      answered++;
      return content.equals(expected.subarray(offset, offset + 8192));
    });
    await until(
      "reads are waited for",
      async () => (await metric(agent, "vmrestore_agent_repository_longest_wait_seconds")) > 0.5,
    );
    // As a guest writes: sectors of pages that were never fetched, durable one by one.
    for (let count = 0; count < 200; count++) {
      const offset = (count % 24) * MIB + 65_536 + 4096 * count + 512 * (count % 8);
      const sector = noise(512, 1000 + count);
      await file.write(offset, sector);
      sector.copy(expected, offset);
      expect((await file.read(offset, 512)).equals(sector)).toBe(true);
    }
    expect(answered).toBe(0);
    expect((await agent.operator.status()).repository.longestWait).toBeGreaterThan(500);
    release();
    expect(await Promise.all(reads)).toEqual(places.map(() => true));
    for (let at = 0; at < original.length; at += MIB) {
      expect((await file.read(at, MIB)).equals(expected.subarray(at, at + MIB))).toBe(true);
    }
    expect((await agent.operator.status()).repository.longestWait).toBe(0);
    file.close();
  });
}, 90_000);

test("however many requests wait for a repository that hangs, memory stays bounded, and all are answered in the end", async () => {
  await withAgent({}, async (agent) => {
    const before = await memoryBytes(agent.pid);
    hang();
    // One machine, which mounts once, with several connections.
    const first = await openDisk(agent);
    const others = await Promise.all(Array.from({ length: 7 }, () => openDisk(agent, first.handle)));
    const clients = [first, ...others];
    // Not whole sectors: their other bytes have to be fetched before they can be written. 600 MiB if all were taken in.
    const piece = 150_000;
    const answers = clients.flatMap((client, index) =>
      Array.from({ length: 500 }, (_, count) => {
        const offset = ((index * 500 + count) * 5000 + 1) % (original.length - piece);
        return client.write(offset, Buffer.alloc(piece, index + 1));
      }),
    );
    const all = Promise.all(answers);
    all.catch(() => undefined);
    await until(
      "requests wait",
      async () => (await metric(agent, "vmrestore_agent_repository_longest_wait_seconds")) > 3,
    );
    expect(clients.every((client) => client.unsentBytes > 10 * MIB)).toBe(true);
    expect((await memoryBytes(agent.pid)) - before).toBeLessThan(200 * MIB);
    release();
    await all;
    for (const client of clients) client.close();
  });
}, 120_000);

test("a full claim: writes wait and it is said, also after a kill; when it has grown they go on, and nothing is lost", async () => {
  // Two journals fit, what is kept for the agent, and a few MiB of data.
  const claim = await SmallFileSystem.create(25 * MIB);
  try {
    await withAgent({ overlayDirectory: claim.path }, async (agent) => {
      const expected = Buffer.from(original);
      let file = await openDisk(agent);
      let count = 0;
      let pending: Promise<void> | undefined;
      const writeNext = async (): Promise<void> => {
        const offset = (count * 65_536) % original.length;
        const bytes = noise(65_536, 5000 + count);
        pending = file.write(offset, bytes);
        pending.catch(() => undefined);
        await pending;
        bytes.copy(expected, offset);
        count++;
      };
      const fill = async (): Promise<void> => {
        for (;;) await writeNext();
      };
      const filling = fill().catch(() => undefined);
      await until("it is full", async () => (await agent.operator.status()).overlay.full);
      expect(await metric(agent, "vmrestore_agent_overlay_full")).toBe(1);
      expect(count).toBeGreaterThan(50);

      // What was acknowledged is read, and zeros and what is there already are written, without space.
      expect((await file.read(0, 65_536)).equals(expected.subarray(0, 65_536))).toBe(true);
      await agent.stop("SIGKILL");
      await filling;
      await agent.start();
      const { handle } = file;
      file = await openDisk(agent, handle);
      for (let at = 0; at < count * 65_536; at += 65_536) {
        expect((await file.read(at, 65_536)).equals(expected.subarray(at, at + 65_536))).toBe(true);
      }
      // The client sends again what was not answered.
      let isDone = false;
      const again = writeNext().then(() => {
        isDone = true;
      });
      await until("it is full again", async () => (await agent.operator.status()).overlay.full);
      await new Promise((resolve) => setTimeout(resolve, 2500));
      expect(isDone).toBe(false);
      await claim.resize(64 * MIB);
      await again;
      await until("it is not full any more", async () => !(await agent.operator.status()).overlay.full);
      expect(await metric(agent, "vmrestore_agent_overlay_full")).toBe(0);
      for (let at = 0; at < original.length; at += MIB) {
        expect((await file.read(at, MIB)).equals(expected.subarray(at, at + MIB))).toBe(true);
      }
      file.close();
    });
  } finally {
    await claim.remove();
  }
}, 90_000);

/** Asks it to end, and gives back whether it did so long before a request to the repository is given up. */
async function endsSoon(agent: TestAgent): Promise<boolean> {
  const since = performance.now();
  await agent.stop();
  return performance.now() - since < 15_000;
}

test("asked to end while the repository hangs, it does not wait for it: whoever comes next is waited for by the guest", async () => {
  await withAgent({}, async (agent) => {
    const file = await openDisk(agent);
    await file.write(0, Buffer.alloc(4096, 1));
    hang();
    const read = file.read(FAR, 4096).catch(() => undefined);
    await until("the read waits", async () => (await agent.operator.status()).repository.longestWait !== 0);
    expect(await endsSoon(agent)).toBe(true);
    expect(agent.log).toContain('"ended"');
    file.close();
    await read;

    await agent.spawn();
    await until("it is up", async () => (await agent.metricsPort("/healthz").catch(() => undefined))?.status === 200);
    expect(await endsSoon(agent)).toBe(true);
    expect(agent.log.split('"ended"')).toHaveLength(3);
  });
}, 240_000);

test("the guest of a SATA disk is answered in time, and nothing that came later is overwritten by what it gave up", async () => {
  await withAgent({ answerLimitMs: 1000 }, async (agent) => {
    const file = await openDisk(agent);
    await agent.operator.setBus("root", "sata");
    expect((await agent.operator.status()).disks[0]?.bus).toBe("sata");
    hang();
    await expect(file.read(FAR, 4096)).rejects.toThrow("NFS status 5");
    // Half a sector waits for the other half; what the guest writes there afterwards is newer.
    await expect(file.write(FAR + MIB, Buffer.alloc(256, 1))).rejects.toThrow("NFS status 5");
    const newer = file.write(FAR + MIB, Buffer.alloc(512, 2));
    newer.catch(() => undefined);
    release();
    await newer.catch(() => file.write(FAR + MIB, Buffer.alloc(512, 2)));
    expect((await file.read(FAR + MIB, 512)).equals(Buffer.alloc(512, 2))).toBe(true);
    expect((await file.read(FAR, 4096)).equals(original.subarray(FAR, FAR + 4096))).toBe(true);
    // A restarted agent knows it still.
    await agent.stop("SIGKILL");
    await agent.start();
    expect((await agent.operator.status()).disks[0]?.bus).toBe("sata");
    file.close();
  });
}, 180_000);
