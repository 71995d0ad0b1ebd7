import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { parse } from "yaml";
import { backUp, timeFullRestore } from "./backup.ts";
import { runCommand } from "./command.ts";
import { ordersDatabase } from "./virtual-machine.ts";

let scratch: string;

beforeEach(async () => {
  scratch = await mkdtemp(join(tmpdir(), "quickstart-backup-"));
});

afterEach(() => rm(scratch, { recursive: true, force: true }));

test("restic gives back the disk and the manifest that were backed up", async () => {
  const disk = join(scratch, "disk.img");
  const passwordFile = join(scratch, "password");
  const repository = join(scratch, "repository");
  await writeFile(disk, Buffer.alloc(300_000, "abc"));
  await writeFile(passwordFile, "secret");
  const common = { repository, passwordFile, host: "orders-db", scratch, signal: AbortSignal.timeout(60_000) };
  await backUp({ ...common, disk, manifest: ordersDatabase() });
  await backUp({ ...common, disk, manifest: ordersDatabase() });

  const dump = (path: string): Promise<string> =>
    runCommand("restic", ["--no-cache", "-r", repository, "--password-file", passwordFile, "dump", "latest", path]);
  expect(await dump("/disks/root.img")).toBe((await readFile(disk)).toString());
  expect(parse(await dump("/virtualmachine.yaml"))).toEqual(ordersDatabase());
  expect(await timeFullRestore(common)).toBeGreaterThan(0);
});

test("a failed command names the program and what it said", async () => {
  await expect(runCommand("restic", ["--no-such-flag"])).rejects.toMatchObject({
    code: "COMMAND_FAILED",
    message: expect.stringContaining("no-such-flag"),
  });
  await expect(runCommand("no-such-program-here", [])).rejects.toMatchObject({ code: "COMMAND_FAILED" });
});
