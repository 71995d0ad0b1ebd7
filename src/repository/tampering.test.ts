import { copyFile, readFile, rename, rm, truncate, writeFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { LocalBackend } from "./backends/local.ts";
import { encrypt } from "./crypto.ts";
import { openMasterKey } from "./key-file.ts";
import { Repository } from "./repository.ts";
import { openFile, readRange } from "./testing/read-range.ts";
import { noise, ResticRepository } from "./testing/restic.ts";

const MIB = 1024 * 1024;

describe("what is wrong with a repository is said by its code", () => {
  let restic: ResticRepository;
  const content = noise(3 * MIB, 5);
  let snapshotId: string;

  const open = (password = restic.password): Promise<Repository> =>
    Repository.open(new LocalBackend(restic.directory), password, { threads: 1 });

  /** Everything that a restore reads, from opening to the last byte. */
  async function readEverything(): Promise<Buffer> {
    const repository = await open();
    try {
      const file = await openFile(repository, snapshotId, "/root.img");
      return await readRange(repository, file, 0, file.size);
    } finally {
      await repository.close();
    }
  }

  beforeAll(async () => {
    restic = await ResticRepository.create(2);
    snapshotId = await restic.backUp({ "root.img": content });
  }, 120_000);

  afterAll(() => restic.remove());

  test("a wrong password", async () => {
    await expect(open("wrong")).rejects.toMatchObject({ code: "REPOSITORY_WRONG_PASSWORD", hint: expect.any(String) });
  });

  test("no repository, and a directory that is not there", async () => {
    for (const directory of ["/nowhere/at/all", "/etc"]) {
      await expect(Repository.open(new LocalBackend(directory), "x")).rejects.toMatchObject({
        code: "REPOSITORY_NOT_FOUND",
      });
    }
  });

  test("a config of a later format, and one that is none", async () => {
    const path = `${restic.directory}/config`;
    const genuine = await readFile(path);
    const backend = new LocalBackend(restic.directory);
    const key = await openMasterKey(backend, restic.password);
    for (const [config, code] of [
      ['{"version":3,"id":"x"}', "REPOSITORY_UNSUPPORTED"],
      ['{"version":"2","id":"x"}', "REPOSITORY_OBJECT_DAMAGED"],
      ["no JSON", "REPOSITORY_OBJECT_DAMAGED"],
    ] as const) {
      await backend.save({ type: "config", name: "" }, encrypt(key, Buffer.from(config)));
      await expect(open()).rejects.toMatchObject({ code });
    }
    await backend.save({ type: "config", name: "" }, genuine);
    expect((await readEverything()).equals(content)).toBe(true);
  });

  test("a pack with another's genuine content", async () => {
    const [one = "", two = ""] = await restic.files("data");
    const aside = `${one}.aside`;
    await rename(one, aside);
    await copyFile(two, one);
    await expect(readEverything()).rejects.toMatchObject({ code: expect.stringMatching(/DAMAGED$/) });
    await rename(aside, one);
    expect((await readEverything()).equals(content)).toBe(true);
  });

  test("a missing pack", async () => {
    for (const pack of await restic.files("data")) {
      await rename(pack, `${pack}.away`);
      await expect(readEverything()).rejects.toMatchObject({ code: "REPOSITORY_PACK_MISSING" });
      await rename(`${pack}.away`, pack);
    }
    expect((await readEverything()).equals(content)).toBe(true);
  });

  test.each(["config", "keys", "index", "snapshots", "data"])(
    "altered or cut off: %s",
    async (type) => {
      const files = type === "config" ? [`${restic.directory}/config`] : await restic.files(type);
      for (const path of files) {
        const genuine = await readFile(path);
        for (const at of [0, 20, Math.floor(genuine.length / 2), genuine.length - 1]) {
          const altered = Buffer.from(genuine);
          altered[at] = (altered[at] ?? 0) ^ 1;
          await rm(path); // restic makes its files read-only
          await writeFile(path, altered);
          const outcome = await readEverything().then(
            // A flipped bit in a pack's own header, or a letter's case in base64, changes nothing that is read.
            (read) => (read.equals(content) ? "unharmed" : "SERVED ALTERED DATA"),
            (error: { code?: string }) => error.code,
          );
          expect([
            "unharmed",
            "REPOSITORY_OBJECT_DAMAGED",
            "REPOSITORY_BLOB_DAMAGED",
            "REPOSITORY_WRONG_PASSWORD",
          ]).toContain(outcome);
          if (type !== "data") expect(outcome).toBe("REPOSITORY_OBJECT_DAMAGED");
        }
        await writeFile(path, genuine);
        await truncate(path, 40);
        await expect(readEverything()).rejects.toMatchObject({
          code: expect.stringMatching(/DAMAGED|WRONG_PASSWORD/),
        });
        await writeFile(path, genuine);
      }
      expect((await readEverything()).equals(content)).toBe(true);
    },
    120_000,
  );
});
