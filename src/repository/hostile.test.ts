import { execFileSync } from "node:child_process";
import { createHash, randomBytes, scryptSync } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { zstdCompressSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { LocalBackend } from "./backends/local.ts";
import { BlobTable } from "./blob-table.ts";
import { type CryptoKey, encrypt } from "./crypto.ts";
import { IdTable } from "./id-table.ts";
import { openMasterKey } from "./key-file.ts";
import { Repository } from "./repository.ts";
import { SnapshotList } from "./snapshot-list.ts";
import { inPieces } from "./testing/in-pieces.ts";
import { indexEntries } from "./testing/index-entries.ts";
import { writeCheapKey } from "./testing/keys.ts";
import { parseTree } from "./tree.ts";
import { saveUnpackedJson } from "./unpacked.ts";

/** Whoever may write backups has the repository's key: what is sealed with it is genuine, and may be meant to harm all the same. */
const key: CryptoKey = { encryption: randomBytes(32), macK: randomBytes(16), macR: randomBytes(16) };
let directory: string;
let backend: LocalBackend;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "hostile-"));
  backend = new LocalBackend(directory);
  await writeCheapKey(backend, key, "password");
  await backend.save({ type: "config", name: "" }, encrypt(key, Buffer.from('{"version":2,"id":"x"}')));
});
afterEach(async () => {
  await backend.close();
  await rm(directory, { recursive: true });
});

/** Saves sealed bytes under their own name, as restic would. */
async function save(type: "snapshots" | "locks" | "index", plain: Buffer): Promise<string> {
  const sealed = encrypt(key, plain);
  const name = createHash("sha256").update(sealed).digest("hex");
  await backend.save({ type, name }, sealed);
  return name;
}

const bomb = (text: string, times: number): Buffer =>
  Buffer.concat([Buffer.of(2), zstdCompressSync(Buffer.from(text.repeat(times)))]);

describe("files that are sealed, small, and unfold to something huge", () => {
  test("a snapshot of 100 MiB, or of a million brackets", async () => {
    for (const plain of [bomb(" ".repeat(1024), 100 * 1024), bomb("[", 1_000_000)]) {
      const name = await save("snapshots", plain);
      const list = new SnapshotList(backend, key);
      await expect(list.all()).rejects.toMatchObject({ code: "REPOSITORY_OBJECT_DAMAGED" });
      expect(await list.readable()).toEqual([]);
      await backend.remove({ type: "snapshots", name });
    }
  });

  test("more in snapshots than can be kept in memory", async () => {
    const path = "p".repeat(4000);
    for (let number = 0; number < 20; number++) {
      const paths = Array.from({ length: 1000 }, (_, index) => `/${number}/${index}/${path}`);
      await saveUnpackedJson(backend, key, 2, "snapshots", {
        time: "2026-01-01T00:00:00Z",
        tree: "0".repeat(64),
        paths,
      });
    }
    await expect(new SnapshotList(backend, key).all()).rejects.toMatchObject({ code: "REPOSITORY_UNSUPPORTED" });
  }, 180_000);

  test("a directory of a million names of 4000 letters", async () => {
    const node = `{"name":"${"n".repeat(4000)}","type":"file"}`;
    const tree = Buffer.from(`{"nodes":[${Array.from({ length: 30_000 }, () => node).join(",")}]}`);
    const parsing = parseTree("t", inPieces(tree, 128 * 1024), tree.length);
    await expect(parsing).rejects.toMatchObject({ code: "REPOSITORY_OBJECT_DAMAGED" });
  });
});

describe("ids that were made to collide", () => {
  const COUNT = 40_000;
  /** The same beginning in all, as no hash would have. */
  const alike = (number: number): Buffer => {
    const id = Buffer.alloc(32, 7);
    id.writeUInt32LE(number, 20);
    return id;
  };
  const place = { pack: "a".repeat(64), offset: 0, length: 100, uncompressedLength: 0 };

  /** CPU time that each of them takes. */
  async function microseconds(body: () => Promise<void>): Promise<number> {
    const before = process.threadCpuUsage();
    await body();
    const { user, system } = process.threadCpuUsage(before);
    return (user + system) / COUNT;
  }

  test("cost no more in a table than others", async () => {
    const table = new BlobTable();
    const entries = indexEntries(Array.from({ length: COUNT }, (_, number) => [alike(number), place]));
    const took = await microseconds(async () => {
      await table.add(entries);
      for (let number = 0; number < COUNT; number++) if (!table.has(alike(number))) throw new Error("lost");
    });
    expect(took).toBeLessThan(100);
  });

  test("cost no more in another thread's table than others", async () => {
    const ids = Buffer.concat(Array.from({ length: COUNT }, (_, number) => alike(number)));
    const table = IdTable.withRoom(0, true);
    expect(await microseconds(async () => void (await table.addAll(ids)))).toBeLessThan(100);
    expect(table.size).toBe(COUNT);
    expect(IdTable.from(table.memory).find(alike(COUNT - 1))).toBe(COUNT - 1);
  });

  test("a blob that is said to lie in very many packs is known in a few of them", async () => {
    const table = new BlobTable();
    const entries = indexEntries(Array.from({ length: COUNT }, (_, offset) => [alike(1), { ...place, offset }]));
    const took = await microseconds(() => table.add(entries));
    expect(table.locations(alike(1)).length).toBeLessThanOrEqual(16);
    expect(table.size).toBeLessThanOrEqual(16);
    expect(took).toBeLessThan(100);
  });
});

test("keys that somebody added and that take longer to try are tried after the genuine one", async () => {
  for (let number = 0; number < 12; number++) {
    // Opened by the password, it turns out to hold nothing: whoever tries it fails.
    const salt = randomBytes(64);
    const derived = scryptSync("password", salt, 64, { N: 4, r: 1, p: 1 });
    const own = { encryption: derived.subarray(0, 32), macK: derived.subarray(32, 48), macR: derived.subarray(48) };
    const data = encrypt(own, Buffer.from("{}")).toString("base64");
    const content = Buffer.from(
      JSON.stringify({ kdf: "scrypt", N: 4, r: 1, p: 1, salt: salt.toString("base64"), data }),
    );
    await backend.save({ type: "keys", name: createHash("sha256").update(content).digest("hex") }, content);
  }
  expect(await openMasterKey(backend, "password")).toEqual({
    encryption: Buffer.from(key.encryption),
    macK: Buffer.from(key.macK),
    macR: Buffer.from(key.macR),
  });
});

test("what is no regular file where one should be is damaged, and nobody waits for it", async () => {
  for (const type of ["snapshots", "index", "locks"] as const) {
    const name = "ab".repeat(32);
    await backend.save({ type, name }, Buffer.from("x"));
    const path = join(directory, type, name);
    await rm(path);
    execFileSync("mkfifo", [path]);
    await expect(backend.readAll({ type, name }, 100)).rejects.toMatchObject({ code: "REPOSITORY_OBJECT_DAMAGED" });
    await expect(backend.readRange({ type, name }, 0, 10)).rejects.toMatchObject({ code: "REPOSITORY_OBJECT_DAMAGED" });
    await rm(path);
  }
});

test("an index that names a pack by a path is refused", async () => {
  const blob = { id: "1".repeat(64), type: "data", offset: 0, length: 100 };
  await saveUnpackedJson(backend, key, 2, "index", {
    packs: [{ id: "../../../etc/passwd".padEnd(64, "x"), blobs: [blob] }],
  });
  const repository = await Repository.open(backend, "password", { threads: 1 });
  await expect(repository.reloadIndex()).rejects.toMatchObject({ code: "REPOSITORY_OBJECT_DAMAGED" });
  await repository.close();
});
