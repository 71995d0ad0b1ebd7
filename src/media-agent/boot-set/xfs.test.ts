import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { systemClock } from "../../base/clock.ts";
import { memorySource } from "../../disk/testing/memory-source.ts";
import { collect, coverage, ImageWorkshop } from "../testing/disk-images.ts";
import { BoundedDisk } from "./bounded-disk.ts";
import { xfsBootSet } from "./xfs.ts";

const MIB = 1024 * 1024;
let workshop: ImageWorkshop;

beforeAll(async () => {
  workshop = await ImageWorkshop.create();
});
afterAll(() => workshop.remove());

test("finds the groups, the root's inodes and the log where xfs_db does", async () => {
  const image = await workshop.blank("xfs", 320 * MIB);
  await workshop.run("mkfs.xfs", "-q", image);
  const ask = async (...commands: readonly string[]): Promise<string> =>
    workshop.run("xfs_db", "-r", ...commands.flatMap((command) => ["-c", command]), image);
  const field = async (name: string): Promise<string> =>
    (await ask("sb 0", `print ${name}`)).split("=")[1]?.trim() ?? "";
  const address = async (from: string): Promise<number> =>
    512 * Number(/\((\d+)\)/.exec(await ask("sb 0", `convert ${from} daddr`))?.[1]);

  const head = await readFile(image);
  const covers = coverage(await collect(xfsBootSet(new BoundedDisk(memorySource(head), systemClock))));
  const root = await address(`ino ${await field("rootino")}`);
  expect(root).toBeGreaterThan(0);
  expect(covers({ offset: root, length: 512 })).toBe(true);
  const log = await address(`fsblock ${await field("logstart")}`);
  expect(covers({ offset: log, length: Number(await field("logblocks")) * 4096 })).toBe(true);
  const groups = Number(await field("agcount"));
  expect(groups).toBeGreaterThan(1);
  for (let group = 0; group < groups; group++) {
    const offset = group * Number(await field("agblocks")) * 4096;
    expect(head.toString("latin1", offset, offset + 4)).toBe("XFSB");
    expect(covers({ offset, length: 4096 })).toBe(true);
  }
});

test("anything else has none", async () => {
  const disk = new BoundedDisk(memorySource(Buffer.alloc(MIB)), systemClock);
  expect(await collect(xfsBootSet(disk))).toEqual([]);
});
