import { spawn } from "node:child_process";
import { rename, rm, writeFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import type { FileName } from "./backends/backend.ts";
import { LocalBackend } from "./backends/local.ts";
import type { CryptoKey } from "./crypto.ts";
import { RepositoryError } from "./errors.ts";
import { openMasterKey } from "./key-file.ts";
import type { LockMaker } from "./lock.ts";
import { findPins, pinSnapshot } from "./pin.ts";
import { SnapshotList } from "./snapshot-list.ts";
import { FaultProxy } from "./testing/fault-proxy.ts";
import { RcloneServer } from "./testing/rclone.ts";
import { ResticRepository } from "./testing/restic.ts";
import { readUnpackedJson, saveUnpackedJson } from "./unpacked.ts";

interface Listed {
  readonly id: string;
  readonly time: string;
  readonly tree: string;
  readonly hostname: string;
}

const owner = { hostname: "agent", pid: 1 };
let restic: ResticRepository;
let backend: LocalBackend;
let key: CryptoKey;
let writer: LockMaker;
let list: SnapshotList;

beforeAll(async () => {
  restic = await ResticRepository.create(2);
  backend = new LocalBackend(restic.directory);
  key = await openMasterKey(backend, restic.password);
}, 120_000);
afterAll(() => restic.remove());
beforeEach(() => {
  writer = { backend, key, version: 2, owner, now: Date.now };
  list = new SnapshotList(backend, key);
});

const listed = async (): Promise<Listed[]> => JSON.parse(await restic.restic(["snapshots", "--json"]));
const locks = async (): Promise<string> => restic.restic(["list", "locks", "--no-lock"]);

describe("pins, as restic sees them", () => {
  let older: string;
  let newer: string;

  beforeAll(async () => {
    const backUp = (text: string): Promise<string> =>
      restic.backUp({ "root.img": Buffer.from(text) }, ["--host", "vm", "--tag", "nightly"]);
    older = await backUp("older");
    newer = await backUp("newer");
  }, 120_000);

  test("has the same tree and time, and passes restic's checks", async () => {
    const pin = await pinSnapshot(writer, list, older, "uid-1");
    const snapshots = await listed();
    const original = snapshots.find(({ id }) => id === older);
    expect(snapshots.find(({ id }) => id === pin)).toMatchObject({
      time: original?.time,
      tree: original?.tree,
      hostname: "vmrestore-pin-uid-1",
    });
    const tagged = JSON.parse(await restic.restic(["snapshots", "--json", "--tag", "vmrestore-pin"])) as Listed[];
    expect(tagged.map(({ id }) => id)).toEqual([pin]);
    await restic.restic(["check", "--read-data"]);
    expect(await locks()).toBe("");
  }, 120_000);

  test.each(["host,paths", "host", "paths", "tags"])(
    "is left alone by a policy that groups by %s, and takes no backup's place in it",
    async (grouping) => {
      const pin = await pinSnapshot(writer, list, older, "uid-1");
      await restic.restic(["forget", "--group-by", grouping, "--keep-last", "2", "--prune"]);
      expect((await listed()).map(({ id }) => id).sort()).toEqual([older, newer, pin].sort());
    },
    30_000,
  );

  test("is found again after a restart, even when the backup is gone", async () => {
    const pin = await pinSnapshot(writer, list, older, "uid-1");
    await restic.restic(["forget", "--prune", older]);
    expect(await pinSnapshot(writer, new SnapshotList(backend, key), older, "uid-1")).toBe(pin);
    expect((await restic.restic(["dump", pin, "/root.img"])).toString()).toBe("older");
    await expect(pinSnapshot(writer, list, older, "uid-2")).rejects.toMatchObject({ code: "SNAPSHOT_NOT_FOUND" });
    expect(await findPins(list, "uid-2")).toEqual([]);
    expect(await locks()).toBe("");
  }, 120_000);

  test("each restore has its own", async () => {
    const one = await pinSnapshot(writer, list, newer, "a");
    const two = await pinSnapshot(writer, list, newer, "b");
    expect((await findPins(list, "a")).map(({ id }) => id)).toEqual([one]);
    expect((await findPins(list, "b")).map(({ id }) => id)).toEqual([two]);
  });

  test("a damaged snapshot of somebody else does not get in the way", async () => {
    const damaged = `${restic.directory}/snapshots/${"0".repeat(64)}`;
    await writeFile(damaged, "damaged");
    await pinSnapshot(writer, list, newer, "c");
    expect(await findPins(list, "c")).toHaveLength(1);
    await expect(list.all()).rejects.toMatchObject({ code: "REPOSITORY_OBJECT_DAMAGED" });
    await rm(damaged);
    expect(await list.all()).toHaveLength((await listed()).length);
  });
});

describe("pins and whoever else is at work", () => {
  let snapshot: string;
  const held: string[] = [];

  beforeAll(async () => {
    snapshot = await restic.backUp({ "root.img": Buffer.from("locked") }, ["--host", "locked"]);
  }, 120_000);

  async function hold(exclusive: boolean, ageMs: number): Promise<void> {
    const time = new Date(Date.now() - ageMs).toISOString();
    const lock = { time, exclusive, hostname: "other", username: "x", pid: 1 };
    held.push(await saveUnpackedJson(backend, key, 2, "locks", lock));
  }
  beforeEach(async () => {
    for (const name of held.splice(0)) await backend.remove({ type: "locks", name });
  });

  test("an exclusive lock refuses, and leaves nothing behind", async () => {
    await hold(true, 60_000);
    await expect(pinSnapshot(writer, list, snapshot, "x")).rejects.toMatchObject({
      code: "REPOSITORY_LOCKED",
      message: expect.stringContaining("other"),
    });
    expect(await findPins(list, "x")).toEqual([]);
    expect(await backend.list("locks")).toEqual(held);
  });

  test("readers' locks, stale locks and broken ones do not", async () => {
    await hold(false, 0);
    await hold(true, 31 * 60_000);
    const broken = "f".repeat(64);
    await backend.save({ type: "locks", name: broken }, Buffer.from("cut o"));
    held.push(broken);
    await pinSnapshot(writer, list, snapshot, "y");
    expect(await findPins(list, "y")).toHaveLength(1);
  });

  test("our lock is one that restic understands, and it keeps a prune out", async () => {
    class LookingBackend extends LocalBackend {
      seen: unknown;
      refusal = "";

      override async save(file: FileName, content: Buffer): Promise<void> {
        if (file.type === "snapshots") {
          const [lock = ""] = await this.list("locks");
          this.seen = JSON.parse(await restic.restic(["cat", "lock", lock, "--no-lock"]));
          this.refusal = await restic.restic(["prune"]).then(
            () => "pruned",
            (error: Error) => error.message,
          );
        }
        return super.save(file, content);
      }
    }
    const looking = new LookingBackend(restic.directory);
    await pinSnapshot({ ...writer, backend: looking }, list, snapshot, "z");
    expect(looking.seen).toMatchObject({ exclusive: false, hostname: "agent", pid: 1 });
    expect(looking.refusal).toContain("already locked");
    expect(await locks()).toBe("");
  }, 120_000);

  test("a snapshot that is forgotten while it is pinned leaves no pin that promises what is gone", async () => {
    const path = `${restic.directory}/snapshots/${snapshot}`;
    class ForgettingBackend extends LocalBackend {
      override async save(file: FileName, content: Buffer): Promise<void> {
        if (file.type === "snapshots") await rename(path, `${path}.forgotten`);
        return super.save(file, content);
      }
    }
    const forgetting = new ForgettingBackend(restic.directory);
    await expect(pinSnapshot({ ...writer, backend: forgetting }, list, snapshot, "w")).rejects.toMatchObject({
      code: "SNAPSHOT_NOT_FOUND",
    });
    await rename(`${path}.forgotten`, path);
    expect(await findPins(list, "w")).toEqual([]);
    expect(await locks()).toBe("");
  });

  test("a snapshot that is gone is asked for without a lock: a prune would refuse to begin", async () => {
    const written: FileName[] = [];
    class WatchedBackend extends LocalBackend {
      override async save(file: FileName, content: Buffer): Promise<void> {
        written.push(file);
        return super.save(file, content);
      }
    }
    const watched = new WatchedBackend(restic.directory);
    const pinning = pinSnapshot({ ...writer, backend: watched }, list, "f".repeat(64), "w");
    await expect(pinning).rejects.toMatchObject({ code: "SNAPSHOT_NOT_FOUND" });
    expect(written).toEqual([]);
  });

  /** A prune of restic itself that died while it held its exclusive lock. */
  async function deadPrune(): Promise<string> {
    const rclone = await RcloneServer.start(restic.directory);
    const proxy = await FaultProxy.start(rclone.port);
    const before = new Set(await backend.list("locks"));
    proxy.fault = ({ url }) => (url.includes("/index/") ? { kind: "stall", after: 0 } : undefined);
    const prune = spawn("restic", ["--no-cache", "-r", `rest:${proxy.url}`, "prune"], {
      env: { ...process.env, RESTIC_PASSWORD: restic.password },
      stdio: "ignore",
    });
    const ended = new Promise((resolve) => prune.once("exit", resolve));
    try {
      for (;;) {
        const found = (await backend.list("locks")).find((name) => !before.has(name));
        const isAtWork = proxy.seen.some(({ url }) => url.includes("/index/"));
        if (found !== undefined && isAtWork) {
          held.push(found);
          return found;
        }
        await delay(50);
      }
    } finally {
      prune.kill("SIGKILL");
      await ended;
      await proxy.stop();
      await rclone.stop();
    }
  }

  test("the exclusive lock of a prune that died: in the way for half an hour, and until restic unlocks", async () => {
    const lock = await deadPrune();
    expect(JSON.parse(await restic.restic(["cat", "lock", lock, "--no-lock"]))).toMatchObject({ exclusive: true });
    await expect(pinSnapshot(writer, list, snapshot, "dead")).rejects.toMatchObject({ code: "REPOSITORY_LOCKED" });
    const later = { ...writer, now: () => Date.now() + 31 * 60_000 };
    await pinSnapshot(later, list, snapshot, "dead");
    expect(await findPins(list, "dead")).toHaveLength(1);
    await restic.restic(["unlock"]);
    expect(await backend.list("locks")).toEqual([]);
    await pinSnapshot(writer, list, snapshot, "alive");
    await restic.restic(["prune"]);
  }, 180_000);

  test("a lock that our own process left when it was killed is taken away by the next, and no other's is", async () => {
    class DyingBackend extends LocalBackend {
      override save(file: FileName, content: Buffer): Promise<void> {
        if (file.type === "snapshots") return new Promise(() => undefined);
        return super.save(file, content);
      }
    }
    await hold(false, 0);
    void pinSnapshot({ ...writer, backend: new DyingBackend(restic.directory) }, list, snapshot, "mine");
    void pinSnapshot({ ...writer, backend: new DyingBackend(restic.directory) }, list, snapshot, "neighbour");
    while ((await backend.list("locks")).length < 3) await delay(20);
    await pinSnapshot(writer, list, snapshot, "mine");
    const left = await backend.list("locks");
    expect(left).toHaveLength(2);
    held.push(...left);
  }, 120_000);

  test("where nothing may be removed there is one lock, not one each minute", async () => {
    class AppendOnlyBackend extends LocalBackend {
      override async remove(): Promise<void> {
        throw new RepositoryError("REPOSITORY_READ_ONLY", "append-only");
      }
    }
    const appending = { ...writer, backend: new AppendOnlyBackend(restic.directory) };
    const pin = await pinSnapshot(appending, list, snapshot, "append");
    for (let minute = 0; minute < 3; minute++) {
      expect(await pinSnapshot(appending, list, snapshot, "append")).toBe(pin);
    }
    const left = await backend.list("locks");
    expect(left).toHaveLength(1);
    held.push(...left);
  });

  test("a restic that unlocks takes away our lock only when it is stale", async () => {
    const young = {
      time: new Date().toISOString(),
      exclusive: false,
      hostname: "agent",
      username: "vmrestore",
      pid: 1,
    };
    const old = { ...young, time: new Date(Date.now() - 31 * 60_000).toISOString() };
    const name = await saveUnpackedJson(backend, key, 2, "locks", young);
    await saveUnpackedJson(backend, key, 2, "locks", old);
    await restic.restic(["unlock"]);
    expect(await backend.list("locks")).toEqual([name]);
    held.push(name);
  }, 120_000);

  test("the pin's file names what it was made from", async () => {
    const pin = await pinSnapshot(writer, list, snapshot, "v");
    const file = await readUnpackedJson(backend, key, { type: "snapshots", name: pin });
    expect(file).toMatchObject({ original: snapshot, username: "vmrestore" });
  });
});
