import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { agentConfig } from "../api/agent-config.ts";
import { systemClock } from "../base/clock.ts";
import { silentLogger } from "../base/logging.ts";
import { LocalBackend } from "../repository/backends/local.ts";
import { noise, ResticRepository } from "../repository/testing/restic.ts";
import { Pin, Pins } from "./pin.ts";
import { RepositoryGroup } from "./repository-group.ts";
import { openSource, type RepositorySource } from "./repository-source.ts";

const UID = "11111111-2222-3333-4444-555555555555";
const SIZE = 64 * 1024;
const IMAGES = { root: noise(SIZE, 1), data: noise(SIZE, 2), logs: noise(SIZE, 3) };

let first: ResticRepository;
let second: ResticRepository;
let root: string;
let data: string;
let logs: string;

beforeAll(async () => {
  [first, second] = await Promise.all([ResticRepository.create(2), ResticRepository.create(1)]);
  root = await first.backUp({ "disk.img": IMAGES.root });
  data = await second.backUp({ "data/data/disk.img": IMAGES.data });
  logs = await second.backUp({ "data/logs/disk.img": IMAGES.logs });
});

afterAll(async () => {
  await Promise.all([first?.remove(), second?.remove()]);
});

const disk = (name: string, path: string, snapshot?: number) => ({ name, path, format: "raw", size: SIZE, snapshot });

function open(change: object = {}): Promise<RepositorySource> {
  const config = agentConfig.parse({
    restore: { namespace: "default", name: "r", uid: UID },
    epoch: 1,
    repository: { local: {} },
    snapshot: { id: root, pin: true },
    otherRepositories: [{ local: {} }],
    otherSnapshots: [
      { id: data, repository: 1 },
      { id: logs, repository: 1 },
    ],
    disks: [disk("data", "/data/data/disk.img", 1), disk("root", "/disk.img"), disk("logs", "/data/logs/disk.img", 2)],
    cache: { sizeBytes: 2 ** 30 },
    ...change,
  });
  const places = [first, second].map(({ directory, password }) => ({
    backend: () => new LocalBackend(directory),
    password: () => password,
  }));
  const options = { config, places, clock: systemClock, log: silentLogger, onWait: () => undefined };
  return openSource(options, new AbortController().signal);
}

async function close({ repositories }: RepositorySource): Promise<void> {
  await Promise.all(repositories.map((repository) => repository.close()));
}

async function contents(source: RepositorySource): Promise<Buffer[]> {
  return Promise.all(
    source.disks.map(async ({ files: [file] }) => {
      const pieces = [...file.blobsIn(0, file.size)].map(({ id }) => source.blobs.readBlob(id));
      return Buffer.concat(await Promise.all(pieces));
    }),
  );
}

test("disks come from several snapshots of several repositories, in the order of the configuration", async () => {
  const source = await open();
  expect(await contents(source)).toEqual([IMAGES.data, IMAGES.root, IMAGES.logs]);
  await close(source);
});

test("every snapshot has a pin of its own, by which it is found again when it was forgotten", async () => {
  const source = await open();
  const pins = new Pins(
    source.snapshots.map(
      ({ id, repository, pinUid }) =>
        new Pin({ repository, snapshot: id, uid: pinUid, clock: systemClock, log: silentLogger }),
    ),
  );
  const stop = new AbortController();
  const keeping = pins.keep(stop.signal);
  while (!pins.pinned) await new Promise(setImmediate);
  await second.restic(["forget", data, logs, "--prune"]);
  await close(source);
  const again = await open();
  expect(await contents(again)).toEqual([IMAGES.data, IMAGES.root, IMAGES.logs]);
  stop.abort();
  await keeping;
  const pinsOf = async (uid: string) => Promise.all(again.repositories.map((repository) => repository.isPinned(uid)));
  expect([await pinsOf(UID), await pinsOf(`${UID}-1`), await pinsOf(`${UID}-2`)]).toEqual([
    [true, false],
    [false, true],
    [false, true],
  ]);
  const own = new Pins(
    again.snapshots.map(
      ({ id, repository, pinUid }) =>
        new Pin({ repository, snapshot: id, uid: pinUid, clock: systemClock, log: silentLogger }),
    ),
  );
  await own.remove();
  expect([await pinsOf(UID), await pinsOf(`${UID}-1`), await pinsOf(`${UID}-2`)].flat()).not.toContain(true);
  await close(again);
});

test.each([
  ["a snapshot of a repository that is not named", { otherSnapshots: [{ id: "a".repeat(64), repository: 7 }] }],
  ["a disk of a snapshot that is not named", { disks: [disk("root", "/disk.img", 5)] }],
])("%s is an error of the configuration", async (_, change) => {
  const single = { otherSnapshots: undefined, disks: [disk("root", "/disk.img")] };
  await expect(open({ ...single, ...change })).rejects.toMatchObject({ code: "CONFIG_INVALID" });
});

test("a blob is read from whichever repository has it and answers", async () => {
  const asked: string[] = [];
  const repository = (name: string, known: readonly string[], failure?: object) => ({
    knows: (id: string) => known.includes(id),
    refreshIndex: async () => {
      if (failure !== undefined) throw failure;
      asked.push(`reload ${name}`);
    },
    place: (id: string) => (known.includes(id) ? { pack: name, length: 1 } : undefined),
    readBlob: async (id: string) => {
      asked.push(`${name} ${id}`);
      if (failure !== undefined) throw failure;
      return Buffer.from(name);
    },
  });
  const away = { code: "REPOSITORY_UNREACHABLE" };
  const group = new RepositoryGroup([
    repository("a", ["x"]),
    repository("b", ["x", "y", "z"], away),
    repository("c", ["z"]),
  ]);
  expect(["x", "z", "?"].map((id) => group.place(id)?.pack)).toEqual(["a", "b", undefined]);
  expect((await group.readBlob("x")).toString()).toBe("a");
  expect((await group.readBlob("z")).toString()).toBe("c");
  await expect(group.readBlob("y")).rejects.toBe(away);
  await expect(group.readBlob("none")).rejects.toMatchObject({ code: "REPOSITORY_BLOB_UNKNOWN" });
  expect(asked).toEqual(["a x", "b z", "c z", "b y"]);
  await expect(group.refreshIndex()).rejects.toBe(away);
  expect(asked.slice(4)).toEqual(["reload a", "reload c"]);
});

test("a password that was changed after the process began is waited for, and taken up without another start", async () => {
  const waits: string[] = [];
  const config = agentConfig.parse({
    restore: { namespace: "default", name: "r", uid: UID },
    epoch: 1,
    repository: { local: {} },
    snapshot: { id: root, pin: true },
    disks: [disk("root", "/disk.img")],
    cache: { sizeBytes: 2 ** 30 },
  });
  const place = {
    backend: () => new LocalBackend(first.directory),
    password: () => (waits.length === 0 ? "the one before" : first.password),
  };
  const onWait = (message: string): void => void waits.push(message);
  const clock = { ...systemClock, sleep: async () => undefined };
  const options = { config, places: [place], clock, log: silentLogger, onWait };
  const source = await openSource(options, new AbortController().signal);
  expect(await contents(source)).toEqual([IMAGES.root]);
  expect(waits).toEqual([expect.stringContaining("the password opens none of the")]);
  await close(source);
});

test("a snapshot that was forgotten is found by its pin, though somebody else's snapshot is damaged", async () => {
  const single = { otherRepositories: [], otherSnapshots: [], disks: [disk("root", "/disk.img")] };
  const source = await open(single);
  await source.repository.pin(root, UID, { hostname: "agent", pid: 1 }, Date.now);
  await close(source);
  await first.restic(["forget", root, "--prune"]);
  // A host that died while it wrote it to a file system that had not got all of it.
  await writeFile(join(first.directory, "snapshots", "5".repeat(64)), Buffer.alloc(200));
  const again = await open(single);
  expect(await contents(again)).toEqual([IMAGES.root]);
  await again.repository.unpin(UID);
  await close(again);
});
