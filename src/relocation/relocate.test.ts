import { execFile } from "node:child_process";
import { createHash, randomBytes, randomInt } from "node:crypto";
import { mkdtemp, open, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import type { Authority } from "../base/certificates.ts";
import { type Clock, systemClock } from "../base/clock.ts";
import { silentLogger } from "../base/logging.ts";
import { testAuthority } from "../base/testing/certificates.ts";
import type { RelocatedDisk } from "./disk-relocation.ts";
import { type RelocationOptions, runRelocation } from "./relocate.ts";
import { AgentModel, ModelDisk } from "./testing/agent-model.ts";

const run = promisify(execFile);
const MIB = 1024 * 1024;
const SIZE = 24 * MIB + 8192;

let authority: Authority;
let scratch: string;
let agent: AgentModel;
let root: ModelDisk;

beforeAll(async () => {
  authority = await testAuthority();
});

beforeEach(async () => {
  scratch = await mkdtemp(join(tmpdir(), "relocation-"));
});

afterEach(async () => {
  await agent.kill();
  await rm(scratch, { recursive: true, force: true });
});

/** Data, a large hole, data, a small hole, and data to the end. */
function image(size = SIZE): Buffer {
  const content = randomBytes(size);
  content.fill(0, 3 * MIB, size - 6 * MIB);
  content.fill(0, size - 2 * MIB, size - 2 * MIB + 20_000);
  return content;
}

async function start(...disks: ModelDisk[]): Promise<void> {
  agent = await AgentModel.start(authority, disks);
  root = disks[0] as ModelDisk;
}

function relocate(
  options: Partial<Pick<RelocationOptions, "disks" | "verify" | "clock">> = {},
  signal: AbortSignal = new AbortController().signal,
): Promise<RelocatedDisk[]> {
  return runRelocation(
    {
      agent: { host: "127.0.0.1", controlPort: agent.controlPort, nbdPort: agent.nbdPort, tls: agent.job },
      disks: [{ name: "root", path: scratch }],
      verify: false,
      log: silentLogger,
      ...options,
    },
    signal,
  );
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}

function sha256(bytes: Buffer): string {
  return createHash("sha256").update(bytes).digest("hex");
}

function scribble(disk: ModelDisk): void {
  const length = randomInt(1, 20_000);
  const data = randomInt(3) === 0 ? Buffer.alloc(length) : randomBytes(length);
  disk.guestWrite(randomInt(disk.size - length), data);
}

describe("a fresh image in a directory", () => {
  test("equals the disk, is sized exactly, sparse, and belongs to QEMU", async () => {
    await start(new ModelDisk("root", image()));
    root.seal();
    await expect(relocate({ verify: true })).resolves.toEqual([
      { name: "root", size: SIZE, checksum: sha256(root.content) },
    ]);
    const path = join(scratch, "disk.img");
    expect((await readFile(path)).equals(root.content)).toBe(true);
    const found = await stat(path);
    expect(found.size).toBe(SIZE);
    expect(found.blocks * 512).toBeLessThan(11 * MIB);
    expect(found.mode & 0o777).toBe(0o660);
    if (process.getuid?.() === 0) expect([found.uid, found.gid]).toEqual([107, 107]);
    expect(root.progress).toMatchObject({ state: "Done", cursor: SIZE, checksum: sha256(root.content) });
    expect(root.progress?.bytesDurable).toBe(root.progress?.bytesTotal);
    await writeFile(join(scratch, "expected"), root.content);
    await run("qemu-img", ["compare", "-f", "raw", "-F", "raw", path, join(scratch, "expected")]);
  });

  test("replaces what lies there from something else", async () => {
    await start(new ModelDisk("root", image()));
    root.seal();
    await writeFile(join(scratch, "disk.img"), randomBytes(30 * MIB));
    await relocate();
    expect((await readFile(join(scratch, "disk.img"))).equals(root.content)).toBe(true);
  });

  test.each([512, 4096, 65_536, 65_536 + 512, 65_536 + 100])("of %i bytes", async (size) => {
    await start(new ModelDisk("root", randomBytes(size)));
    root.seal();
    await relocate({ verify: true });
    expect((await readFile(join(scratch, "disk.img"))).equals(root.content)).toBe(true);
  });
});

test("a device keeps none of its old bytes, and what lies behind the disk", async () => {
  await start(new ModelDisk("root", image()));
  root.seal();
  const device = join(scratch, "device");
  const old = randomBytes(SIZE + MIB);
  await writeFile(device, old);
  await relocate({ disks: [{ name: "root", path: device }], verify: true });
  const found = await readFile(device);
  expect(found.subarray(0, SIZE).equals(root.content)).toBe(true);
  expect(found.subarray(SIZE).equals(old.subarray(SIZE))).toBe(true);
});

test("writes made meanwhile arrive, and the disk is done only when it was sealed", async () => {
  await start(new ModelDisk("root", image()));
  let running = true;
  const writer = (async () => {
    while (running) {
      scribble(root);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  })();
  const done = relocate({ verify: true });
  await until(() => root.progress?.state === "Converged");
  expect(root.told.some((progress) => progress.state === "Done")).toBe(false);
  root.seal();
  await expect(done).resolves.toMatchObject([{ checksum: sha256(root.content) }]);
  running = false;
  await writer;
  expect((await readFile(join(scratch, "disk.img"))).equals(root.content)).toBe(true);
});

test("a limit that is changed meanwhile is kept to without anything being copied again", async () => {
  // Forty times as fast, so that the agent is asked often.
  const clock: Clock = {
    now: () => systemClock.now(),
    monotonic: () => systemClock.monotonic() * 40,
    sleep: (ms, signal) => systemClock.sleep(ms / 40, signal),
  };
  await start(new ModelDisk("root", image()));
  agent.relocationLimit = 1;
  const done = relocate({ clock });
  await until(() => root.bytesRead > 0);
  await systemClock.sleep(500);
  // One piece goes into debt, which is paid after two weeks.
  expect(root.bytesRead).toBeLessThanOrEqual(2 * MIB);
  agent.relocationLimit = undefined;
  await until(() => root.progress?.state === "Converged");
  expect(root.bytesRead).toBe(root.progress?.bytesTotal);
  root.seal();
  await done;
  expect((await readFile(join(scratch, "disk.img"))).equals(root.content)).toBe(true);
});

test("reads that fail now and then are repeated one by one, and nothing else is", async () => {
  await start(new ModelDisk("root", image()));
  root.seal();
  for (let page = 0; page < 400; page++) root.current.add(page * 2);
  let count = 0;
  root.beforeRead = async () => {
    if (++count % 10 === 0) throw new Error("the repository is away");
  };
  await relocate();
  expect((await readFile(join(scratch, "disk.img"))).equals(root.content)).toBe(true);
  const allocated = root.progress?.bytesTotal ?? 0;
  // The first pass, the dirty pages once, and the last page.
  expect(root.bytesRead).toBeLessThanOrEqual(allocated + 400 * 4096 + 4096);
}, 180_000);

test("agent and Job may die at any moment, again and again", async () => {
  await start(new ModelDisk("root", image()), new ModelDisk("data", image(13 * MIB)));
  const disks = [
    { name: "root", path: scratch },
    { name: "data", path: join(scratch, "device") },
  ];
  await writeFile(join(scratch, "device"), randomBytes(14 * MIB));
  for (const disk of agent.disks) {
    disk.beforeRead = async () => {
      await new Promise((resolve) => setTimeout(resolve, randomInt(4)));
      if (randomInt(200) === 0) throw new Error("the repository is away");
    };
  }
  let running = true;
  let isCalm = false;
  const writer = (async () => {
    while (running) {
      for (const disk of agent.disks) scribble(disk);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  })();
  const killer = (async () => {
    for (let count = 0; count < 5; count++) {
      await new Promise((resolve) => setTimeout(resolve, randomInt(50, 500)));
      await agent.kill();
      for (const disk of agent.disks) {
        if (randomInt(2) === 0) disk.crash();
        if (randomInt(2) === 0) disk.mergeGenerations();
      }
      await agent.restart();
    }
    for (const disk of agent.disks) disk.seal();
    isCalm = true;
  })();
  let result: RelocatedDisk[] | undefined;
  while (result === undefined) {
    const job = new AbortController();
    const kill = (): void => {
      if (!isCalm) job.abort(new Error("killed"));
    };
    const timer = setTimeout(kill, randomInt(100, 2500));
    result = await relocate({ disks, verify: true }, job.signal).catch((error: Error) => {
      expect(error.message).toBe("killed");
      return undefined;
    });
    clearTimeout(timer);
  }
  running = false;
  await Promise.all([killer, writer]);
  const [first, second] = agent.disks as [ModelDisk, ModelDisk];
  expect((await readFile(join(scratch, "disk.img"))).equals(first.content)).toBe(true);
  expect((await readFile(join(scratch, "device"))).subarray(0, 13 * MIB).equals(second.content)).toBe(true);
  expect(result.map((disk) => disk.checksum)).toEqual([sha256(first.content), sha256(second.content)]);
}, 180_000);

describe("another run", () => {
  /** Ends a run when the first cursor above 0 was told. */
  async function interrupted(options: Parameters<typeof relocate>[0] = {}): Promise<void> {
    const job = new AbortController();
    root.beforeRead = async (offset) => {
      if (offset > 2 * MIB) await until(() => (root.progress?.cursor ?? 0) > 0 || job.signal.aborted);
      if ((root.progress?.cursor ?? 0) > 0) job.abort(new Error("killed"));
    };
    await expect(relocate(options, job.signal)).rejects.toThrow("killed");
    root.beforeRead = async () => undefined;
    root.bytesRead = 0;
  }

  test("goes on from the durable cursor", async () => {
    await start(new ModelDisk("root", image()));
    await interrupted();
    const cursor = root.progress?.cursor ?? 0;
    expect(cursor).toBeGreaterThanOrEqual(MIB);
    root.guestWrite(100, Buffer.from("written between the runs"));
    root.seal();
    let lowest = SIZE;
    root.beforeRead = async (offset) => {
      if (root.frozen === undefined) lowest = Math.min(lowest, offset);
    };
    await relocate({ verify: false });
    expect(lowest).toBe(cursor);
    expect((await readFile(join(scratch, "disk.img"))).equals(root.content)).toBe(true);
  });

  test("finds nothing at the target that a crashed agent has forgotten", async () => {
    await start(new ModelDisk("root", image()));
    const told = root.told;
    root.beforeRead = async (offset) => {
      // Written while it is read, and never committed by the guest.
      if (told.length > 0 && (told.at(-1)?.cursor ?? 0) === 0) root.guestWrite(offset, randomBytes(4096));
      if (offset > 2 * MIB) await until(() => (root.progress?.cursor ?? 0) > 0);
    };
    const job = new AbortController();
    const done = relocate({ verify: true }, job.signal);
    await until(() => (root.progress?.cursor ?? 0) > 0);
    root.crash();
    await agent.kill();
    root.beforeRead = async () => undefined;
    await agent.restart();
    root.seal();
    await expect(done).resolves.toMatchObject([{ checksum: sha256(root.content) }]);
  });

  test("starts from nothing on a target that is another one", async () => {
    await start(new ModelDisk("root", image()));
    await interrupted();
    await rm(join(scratch, "disk.img"));
    root.seal();
    await relocate({ verify: true });
    expect((await readFile(join(scratch, "disk.img"))).equals(root.content)).toBe(true);
  });

  test("starts from nothing where the agent knows of another target", async () => {
    await start(new ModelDisk("root", image()));
    const device = join(scratch, "device");
    await writeFile(device, randomBytes(SIZE));
    const disks = [{ name: "root", path: device }];
    await interrupted({ disks });
    const handle = await open(device, "r+");
    await handle.write(randomBytes(4096), 0, 4096, 0);
    await handle.close();
    root.progress = { ...(root.progress as NonNullable<typeof root.progress>), target: "another" };
    root.seal();
    await relocate({ disks, verify: true });
    expect((await readFile(device)).equals(root.content)).toBe(true);
  });

  test("after it was done looks only, and tells a target that is not the one", async () => {
    await start(new ModelDisk("root", image()));
    root.seal();
    await relocate();
    const path = join(scratch, "disk.img");
    const before = await stat(path, { bigint: true });
    await expect(relocate()).resolves.toMatchObject([{ checksum: sha256(root.content) }]);
    expect((await stat(path, { bigint: true })).mtimeNs).toBe(before.mtimeNs);
    const other = randomBytes(SIZE);
    await writeFile(path, other);
    await expect(relocate()).rejects.toMatchObject({ code: "RELOCATION_VERIFY_FAILED" });
    expect((await readFile(path)).equals(other)).toBe(true);
    expect(root.progress?.state).toBe("Done");
  });

  test("writes a finished target anew where the disk was opened for writing again", async () => {
    await start(new ModelDisk("root", image()));
    root.seal();
    await relocate();
    // The operator takes the progress back, then the seal; the machine goes on from the agent.
    root.progress = { cursor: 0, bytesTotal: 0, bytesDurable: 0, rate: 0, state: "FirstPass" };
    root.sealed = false;
    for (let count = 0; count < 20; count++) scribble(root);
    const path = join(scratch, "disk.img");
    await writeFile(path, randomBytes(4096), { flag: "r+" });
    root.seal();
    await expect(relocate({ verify: true })).resolves.toMatchObject([{ checksum: sha256(root.content) }]);
    expect((await readFile(path)).equals(root.content)).toBe(true);
  });
});

describe("what cannot be done is told", () => {
  test("a device that is too small, a path that leads nowhere, a disk that nobody serves", async () => {
    await start(new ModelDisk("root", image()));
    const device = join(scratch, "device");
    await writeFile(device, randomBytes(SIZE - 1));
    await expect(relocate({ disks: [{ name: "root", path: device }] })).rejects.toMatchObject({
      code: "RELOCATION_TARGET_UNFIT",
    });
    await expect(relocate({ disks: [{ name: "root", path: join(scratch, "nothing") }] })).rejects.toMatchObject({
      code: "RELOCATION_TARGET_UNFIT",
    });
    await expect(relocate({ disks: [{ name: "other", path: scratch }] })).rejects.toMatchObject({
      code: "RELOCATION_DISK_UNKNOWN",
    });
    expect(root.told).toEqual([]);
  });

  test("a target whose bytes change behind the Job's back fails the verification", async () => {
    await start(new ModelDisk("root", image()));
    root.seal();
    agent.intercept = ({ body }) => {
      if ((body as { state?: string } | undefined)?.state === "Verifying") damage = spoil();
      return undefined;
    };
    let damage: Promise<void> = Promise.resolve();
    const spoil = async (): Promise<void> => {
      const handle = await open(join(scratch, "disk.img"), "r+");
      await handle.write(Buffer.from([1]), 0, 1, SIZE - 10_000);
      await handle.close();
    };
    await expect(relocate({ verify: true })).rejects.toMatchObject({ code: "RELOCATION_VERIFY_FAILED" });
    await damage;
    expect(root.progress?.state).toBe("VerifyFailed");
    agent.intercept = () => undefined;
    await relocate({ verify: true });
    expect((await readFile(join(scratch, "disk.img"))).equals(root.content)).toBe(true);
  });

  test("answers that get lost are asked for again", async () => {
    await start(new ModelDisk("root", image()));
    root.seal();
    const answers = [undefined, undefined, undefined, 503, "lose"] as const;
    agent.intercept = () => answers[randomInt(answers.length)];
    await relocate({ verify: true });
    expect((await readFile(join(scratch, "disk.img"))).equals(root.content)).toBe(true);
  });

  test("an agent that starts is waited for", async () => {
    await start(new ModelDisk("root", image()));
    root.seal();
    agent.serving = false;
    const done = relocate();
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(root.told).toEqual([]);
    agent.serving = true;
    await done;
    expect((await readFile(join(scratch, "disk.img"))).equals(root.content)).toBe(true);
  });

  test("a refusal for good ends the run", async () => {
    await start(new ModelDisk("root", image()));
    agent.intercept = ({ method }) => (method === "PUT" ? 400 : undefined);
    await expect(relocate()).rejects.toMatchObject({ code: "RELOCATION_REFUSED" });
  });
});
