import { createHash, randomBytes } from "node:crypto";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { LocalBackend } from "./backends/local.ts";
import type { CryptoKey } from "./crypto.ts";
import { openMasterKey, parseKeyFile } from "./key-file.ts";
import { writeCheapKey } from "./testing/keys.ts";
import { ResticRepository } from "./testing/restic.ts";

const genuine = {
  kdf: "scrypt",
  N: 32768,
  r: 8,
  p: 7,
  salt: randomBytes(64).toString("base64"),
  data: randomBytes(200).toString("base64"),
};

/** A key file's content under its right name. */
function parse(value: unknown): ReturnType<typeof parseKeyFile> {
  const content = Buffer.from(typeof value === "string" ? value : JSON.stringify(value));
  return parseKeyFile(createHash("sha256").update(content).digest("hex"), content);
}

describe("parseKeyFile", () => {
  test("takes what restic writes, under its own name only", () => {
    expect(parse(genuine)).toMatchObject({ N: 32768, r: 8, p: 7 });
    expect(parseKeyFile("0".repeat(64), Buffer.from(JSON.stringify(genuine)))).toBeUndefined();
  });

  test.each([
    ["no cost", { N: 0 }],
    ["a cost that is no power of two", { N: 3 }],
    ["a broken cost", { N: 2.5 }],
    ["a negative cost", { N: -32768 }],
    ["a cost that wraps around in 32 bits", { N: 2 ** 32 }],
    ["a cost as text", { N: "32768" }],
    ["no block size", { r: 0 }],
    ["a huge block size", { r: 65 }],
    ["no parallelism", { p: 0 }],
    ["huge parallelism", { p: 65 }],
    ["512 MiB of memory", { N: 2 ** 18, r: 16 }],
    ["minutes of work", { N: 2 ** 17, r: 8, p: 64 }],
    ["another function", { kdf: "argon2id" }],
    ["salt that is no base64", { salt: "no base64!" }],
    ["too much salt", { salt: "A".repeat(2000) }],
    ["too much data", { data: "A".repeat(5000) }],
    ["no data", { data: null }],
  ])("refuses %s", (_what, change) => {
    expect(parse({ ...genuine, ...change })).toBeUndefined();
  });

  test("never throws, whatever the file holds", () => {
    const anything = fc.oneof(
      fc.string(),
      fc.jsonValue(),
      fc.record({ kdf: fc.constant("scrypt"), N: fc.jsonValue(), r: fc.integer(), p: fc.integer(), salt: fc.string() }),
    );
    fc.assert(
      fc.property(anything, (value) => {
        const file = parse(value);
        expect(file === undefined || file.N * file.r * file.p <= 2 ** 25).toBe(true);
      }),
    );
  });
});

describe("openMasterKey", () => {
  let directory: string;
  let backend: LocalBackend;
  const master: CryptoKey = { encryption: randomBytes(32), macK: randomBytes(16), macR: randomBytes(16) };

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "keys-"));
    await mkdir(join(directory, "keys"));
    await writeFile(join(directory, "config"), "");
    backend = new LocalBackend(directory);
  });
  afterEach(() => rm(directory, { recursive: true }));

  test("finds the key of its password among others, damaged ones too", async () => {
    for (const password of ["one", "two", "three"]) await writeCheapKey(backend, master, password);
    await writeFile(join(directory, "keys", "0".repeat(64)), "damaged");
    for (const password of ["one", "two", "three"]) {
      const key = await openMasterKey(backend, password);
      expect(Buffer.from(key.encryption)).toEqual(Buffer.from(master.encryption));
    }
    await expect(openMasterKey(backend, "four")).rejects.toMatchObject({
      code: "REPOSITORY_WRONG_PASSWORD",
      message: expect.stringMatching(/none of the 3 keys.*0000 could not be tried/),
    });
  });

  test("only damaged keys, or none at all, is no matter of the password", async () => {
    await expect(openMasterKey(backend, "x")).rejects.toMatchObject({ code: "REPOSITORY_NOT_FOUND" });
    await writeFile(join(directory, "keys", "0".repeat(64)), JSON.stringify(genuine));
    await expect(openMasterKey(backend, "x")).rejects.toMatchObject({ code: "REPOSITORY_OBJECT_DAMAGED" });
  });

  test("tells once that a key is being derived, when nothing more is asked of the backend", async () => {
    for (const password of ["one", "two", "three"]) await writeCheapKey(backend, master, password);
    const steps: string[] = [];
    const list = backend.list.bind(backend);
    const readAll = backend.readAll.bind(backend);
    backend.list = (type) => {
      steps.push("list");
      return list(type);
    };
    backend.readAll = (file, limit) => {
      steps.push("read");
      return readAll(file, limit);
    };
    await expect(openMasterKey(backend, "four", () => steps.push("deriving"))).rejects.toThrow("none of the 3 keys");
    expect(steps).toEqual(["list", "read", "read", "read", "deriving"]);
  });

  test("an empty password and one beyond ASCII", async () => {
    for (const password of ["", "pässwörd ☃ 🔑"]) {
      await writeCheapKey(backend, master, password);
      expect((await openMasterKey(backend, password)).macK).toHaveLength(16);
    }
  });
});

test("opens the keys that restic itself makes, and restic opens ours", async () => {
  const restic = await ResticRepository.create(2);
  try {
    const backend = new LocalBackend(restic.directory);
    const [cheap] = await backend.list("keys");
    const master = await openMasterKey(backend, restic.password);
    const shown = JSON.parse(await restic.restic(["cat", "masterkey"])) as { encrypt: string; mac: { k: string } };
    expect(Buffer.from(master.encryption).toString("base64")).toBe(shown.encrypt);
    expect(Buffer.from(master.macK).toString("base64")).toBe(shown.mac.k);

    const newPassword = join(restic.directory, "..", "new-password");
    await writeFile(newPassword, "another");
    await restic.restic(["key", "add", "--new-password-file", newPassword]);
    if (cheap !== undefined) await backend.remove({ type: "keys", name: cheap });
    expect((await openMasterKey(backend, "another")).encryption).toEqual(master.encryption);
    await expect(openMasterKey(backend, restic.password)).rejects.toMatchObject({ code: "REPOSITORY_WRONG_PASSWORD" });
  } finally {
    await restic.remove();
  }
}, 120_000);
