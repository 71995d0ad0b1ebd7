import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { runCommand } from "../quickstart/command.ts";
import { assembleDisk, masterBootRecord, rootPartition, setKernelArguments } from "./disk-layout.ts";

const MIB = 1 << 20;
let scratch: string;

beforeEach(async () => {
  scratch = await mkdtemp(join(tmpdir(), "disk-layout-"));
});

afterEach(() => rm(scratch, { recursive: true, force: true }));

test("sfdisk and mtools read what was put together", async () => {
  const signal = AbortSignal.timeout(20_000);
  const path = join(scratch, "disk.img");
  const layout = { size: 48 * MIB, bootSize: 32 * MIB };
  await writeFile(join(scratch, "kernel"), "the kernel");
  await writeFile(join(scratch, "initrd"), "the initrd");
  await assembleDisk({
    ...{ ...layout, path, scratch, signal, diskId: 0xdeadbeef, kernelArguments: "one two" },
    ...{ kernel: join(scratch, "kernel"), initrd: join(scratch, "initrd") },
  });

  const { partitiontable } = JSON.parse(await runCommand("sfdisk", ["--json", path]));
  expect(partitiontable).toMatchObject({ label: "dos", id: "0xdeadbeef", sectorsize: 512 });
  expect(partitiontable.partitions).toEqual([
    { node: `${path}1`, start: 2048, size: 65536, type: "c", bootable: true },
    { node: `${path}2`, start: 67584, size: (15 * MIB) / 512, type: "83" },
  ]);
  expect(rootPartition(layout)).toEqual({ offset: 67584 * 512, length: 15 * MIB });

  const boot = ["-i", `${path}@@${MIB}`];
  expect(await runCommand("mtype", [...boot, "::/vmlinuz"])).toBe("the kernel");
  expect(await runCommand("mtype", [...boot, "::/initrd.img"])).toBe("the initrd");
  expect(await runCommand("mtype", [...boot, "::/syslinux.cfg"])).toContain("APPEND one two\n");
  expect(await runCommand("mdir", ["-a", "-b", ...boot])).toContain("::/ldlinux.sys");

  await setKernelArguments(path, "three", signal);
  expect(await runCommand("mtype", [...boot, "::/syslinux.cfg"])).toContain("APPEND three\n");
  expect(await runCommand("mtype", [...boot, "::/vmlinuz"])).toBe("the kernel");
});

test("boot code that would run into the table is refused", () => {
  expect(() => masterBootRecord(Buffer.alloc(441), 1, [])).toThrow("too large");
});
