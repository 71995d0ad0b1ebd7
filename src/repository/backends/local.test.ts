import { chmod, mkdtemp, readdir, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { ResticRepository } from "../testing/restic.ts";
import { LocalBackend } from "./local.ts";

describe.each([false, true])("restic's legacy layout: %s", (legacyLayout) => {
  let restic: ResticRepository;
  let backend: LocalBackend;

  beforeAll(async () => {
    restic = await ResticRepository.create(1, { legacyLayout });
    await restic.backUp({ file: Buffer.from("content") });
    backend = new LocalBackend(restic.directory);
  }, 120_000);
  afterAll(async () => {
    await backend?.close();
    await restic?.remove();
  });

  test("lists and reads what restic lists", async () => {
    for (const [type, called] of [
      ["data", "packs"],
      ["index", "index"],
      ["keys", "keys"],
      ["snapshots", "snapshots"],
    ] as const) {
      const names = await backend.list(type);
      expect(names.sort()).toEqual((await restic.restic(["list", called])).trim().split("\n").sort());
      for (const name of names) {
        const whole = await backend.readAll({ type, name }, 1_000_000);
        expect(await backend.readRange({ type, name }, 3, 9)).toEqual(whole.subarray(3, 12));
        expect(await backend.exists({ type, name })).toBe(true);
      }
    }
  });

  test("restic sees what was saved, and no more what was removed", async () => {
    const file = { type: "locks", name: "ab".repeat(32) } as const;
    await backend.save(file, Buffer.from("not a lock, but a file"));
    expect(await restic.restic(["list", "locks", "--no-lock"])).toContain(file.name);
    await backend.remove(file);
    await backend.remove(file);
    expect(await restic.restic(["list", "locks", "--no-lock"])).toBe("");
    expect(await backend.exists(file)).toBe(false);
  });
});

describe("what a directory cannot give", () => {
  let directory: string;
  let backend: LocalBackend;
  const name = "0".repeat(64);

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "local-backend-"));
    await writeFile(join(directory, "config"), "x");
    backend = new LocalBackend(directory);
    await backend.save({ type: "snapshots", name }, Buffer.from("0123456789"));
  });
  afterAll(async () => {
    await backend.close();
    await rm(directory, { recursive: true });
  });

  test("a name that leads elsewhere is refused", async () => {
    for (const bad of ["../config", "", "A".repeat(64), `${"0".repeat(63)}/`]) {
      await expect(backend.readRange({ type: "data", name: bad }, 0, 1)).rejects.toMatchObject({
        code: "REPOSITORY_OBJECT_DAMAGED",
      });
    }
  });

  test("a file that ends too early, and one that is too long", async () => {
    const file = { type: "snapshots", name } as const;
    expect((await backend.readRange(file, 4, 6)).toString()).toBe("456789");
    for (const [offset, length] of [
      [5, 6],
      [10, 1],
      [2 ** 40, 1],
    ] as const) {
      await expect(backend.readRange(file, offset, length)).rejects.toMatchObject({
        code: "REPOSITORY_OBJECT_DAMAGED",
      });
    }
    await expect(backend.readAll(file, 9)).rejects.toMatchObject({ code: "REPOSITORY_OBJECT_DAMAGED" });
  });

  test("a file that is gone is missing; with the whole repository gone, nothing is", async () => {
    const missing = { type: "data", name: "1".repeat(64) } as const;
    await expect(backend.readRange(missing, 0, 1)).rejects.toMatchObject({ code: "REPOSITORY_OBJECT_MISSING" });
    await rename(join(directory, "config"), join(directory, "config.away"));
    await expect(backend.readRange(missing, 0, 1)).rejects.toMatchObject({ code: "REPOSITORY_UNREACHABLE" });
    await expect(backend.exists(missing)).rejects.toMatchObject({ code: "REPOSITORY_UNREACHABLE" });
    await rename(join(directory, "config.away"), join(directory, "config"));
  });

  test("a file of another user: forbidden to read", async () => {
    const path = join(directory, "snapshots", name);
    await chmod(path, 0o000);
    await chmod(directory, 0o755);
    const root = process.geteuid?.() === 0;
    if (root) process.seteuid?.(65534);
    try {
      await expect(backend.readAll({ type: "snapshots", name }, 100)).rejects.toMatchObject({
        code: "REPOSITORY_FORBIDDEN",
        hint: expect.stringContaining("runAsUser"),
      });
    } finally {
      if (root) process.seteuid?.(0);
      await chmod(path, 0o600);
    }
  });

  test("a directory that may not be written: read-only, and no half-written file stays", async () => {
    await chmod(join(directory, "snapshots"), 0o555);
    const root = process.geteuid?.() === 0;
    if (root) process.seteuid?.(65534);
    try {
      const saved = backend.save({ type: "snapshots", name: "2".repeat(64) }, Buffer.from("x"));
      await expect(saved).rejects.toMatchObject({ code: "REPOSITORY_READ_ONLY" });
    } finally {
      if (root) process.seteuid?.(0);
      await chmod(join(directory, "snapshots"), 0o755);
    }
    expect(await readdir(join(directory, "snapshots"))).toEqual([name]);
  });
});
