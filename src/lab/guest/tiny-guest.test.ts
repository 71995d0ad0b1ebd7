import { constants, copyFile, mkdtemp, open, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { runCommand } from "../quickstart/command.ts";
import { bootOnce } from "./boot-once.ts";
import { setKernelArguments } from "./disk-layout.ts";
import { guestCacheDirectory } from "./recipe-cache.ts";
import { buildTinyGuest, TINY_RECORDS_ARGUMENTS } from "./tiny-guest.ts";

let scratch: string;

beforeEach(async () => {
  scratch = await mkdtemp(join(tmpdir(), "tiny-guest-"));
});

afterEach(() => rm(scratch, { recursive: true, force: true }));

/** Copies the root partition out of the disk, for the programs that read ext4 without mounting. */
async function rootFilesystem(disk: string): Promise<string> {
  const { partitiontable } = JSON.parse(await runCommand("sfdisk", ["--json", disk]));
  const { start, size } = partitiontable.partitions[1];
  const source = await open(disk);
  const target = await open(join(scratch, "root.ext4"), "w");
  const bytes = Buffer.alloc(size * 512);
  await source.read(bytes, 0, bytes.length, start * 512);
  await target.write(bytes);
  await source.close();
  await target.close();
  return join(scratch, "root.ext4");
}

test("boots from its own boot loader, counts boots, keeps every acknowledged record, shuts down cleanly", async () => {
  const signal = AbortSignal.timeout(100_000);
  const built = await buildTinyGuest({ directory: guestCacheDirectory(), signal });
  const disk = join(scratch, "disk.img");
  await copyFile(built, disk, constants.COPYFILE_FICLONE);
  const console = join(scratch, "console");
  const boot = { disk, accelerator: "tcg", console, signal } as const;

  expect((await bootOnce(boot)).page).toBe("hostname=tiny boots=1\n");
  await setKernelArguments(disk, TINY_RECORDS_ARGUMENTS, signal);
  expect((await bootOnce(boot)).page).toBe("hostname=tiny boots=2\n");

  const log = await readFile(console, "utf8");
  expect(log.match(/TINY READY/g)).toHaveLength(2);
  expect(log.match(/TINY POWER OFF/g)).toHaveLength(2);
  const acknowledged = [...log.matchAll(/^ACK (\d+)\r?$/gm)].map((match) => Number(match[1]));
  expect(acknowledged.length).toBeGreaterThan(0);
  expect(acknowledged).toEqual(acknowledged.map((_, index) => index + 1));

  const root = await rootFilesystem(disk);
  await runCommand("e2fsck", ["-f", "-n", root]);
  const records = await runCommand("debugfs", ["-R", "cat /records", root]);
  for (const number of acknowledged) {
    expect(records.slice((number - 1) * 512, number * 512).trimEnd()).toBe(`record ${number} boot 2`);
  }
}, 120_000);
