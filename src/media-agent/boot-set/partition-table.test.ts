import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import fc from "fast-check";
import { ManualClock } from "../../base/testing/manual-clock.ts";
import { memorySource } from "../../disk/testing/memory-source.ts";
import { damaged, ImageWorkshop } from "../testing/disk-images.ts";
import { BoundedDisk } from "./bounded-disk.ts";
import { partitions } from "./partition-table.ts";

const MIB = 1024 * 1024;
let workshop: ImageWorkshop;

beforeAll(async () => {
  workshop = await ImageWorkshop.create();
});
afterAll(() => workshop.remove());

async function make(name: string, script: string): Promise<Buffer> {
  const path = await workshop.blank(name, 32 * MIB);
  await workshop.feed(script, "sfdisk", "--quiet", path);
  return readFile(path);
}

/** What sfdisk itself reads from the table. */
async function expected(name: string): Promise<{ offset: number; length: number }[]> {
  const { partitiontable } = JSON.parse(await workshop.run("sfdisk", "--json", workshop.path(name))) as {
    partitiontable: { partitions: { start: number; size: number; type: string }[] };
  };
  return partitiontable.partitions
    .filter(({ type }) => type !== "5" && type !== "f")
    .map(({ start, size }) => ({ offset: start * 512, length: size * 512 }));
}

const read = (content: Buffer) => partitions(new BoundedDisk(memorySource(content), new ManualClock()));

test("reads a GUID partition table as sfdisk does", async () => {
  const content = await make("gpt", "label: gpt\nsize=1MiB,type=uefi\nsize=3MiB\nstart=20MiB,size=5MiB\n");
  expect(await read(content)).toEqual(await expected("gpt"));
});

test("reads a table of the old kind with logical partitions as sfdisk does", async () => {
  const content = await make(
    "mbr",
    "label: dos\nsize=4MiB\nsize=20MiB,type=5\nsize=3MiB\nsize=2MiB\nsize=1MiB\nsize=4MiB\n",
  );
  const found = await read(content);
  expect(found).toHaveLength(5);
  expect([...found].sort((a, b) => a.offset - b.offset)).toEqual(
    (await expected("mbr")).sort((a, b) => a.offset - b.offset),
  );
});

test("a disk without a table has no partitions", async () => {
  expect(await read(Buffer.alloc(MIB))).toEqual([]);
  expect(await read(Buffer.alloc(100))).toEqual([]);
});

test("whatever the table says, partitions lie within the disk", async () => {
  const tables = [
    await make("a", "label: gpt\nsize=1MiB\nsize=3MiB\n"),
    await make("b", "label: dos\nsize=4MiB\nsize=20MiB,type=5\nsize=3MiB\nsize=2MiB\n"),
  ].map((content) => content.subarray(0, 8 * MIB));
  const change = fc.tuple(fc.oneof(fc.nat(2048), fc.integer({ min: 446, max: 511 })), fc.nat(255));
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...tables), fc.array(change, { maxLength: 12 }), async (content, changes) => {
      const source = damaged(content.subarray(0, 64 * 1024), changes);
      for (const { offset, length } of await partitions(new BoundedDisk(source, new ManualClock()))) {
        expect(offset).toBeGreaterThan(0);
        expect(length).toBeGreaterThan(0);
        expect(offset + length).toBeLessThanOrEqual(source.size);
      }
    }),
  );
});
