import { copyFile, mkdir, open, readFile, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import { runCommand } from "../quickstart/command.ts";
import { type CpioMember, cpioArchive } from "./cpio.ts";
import { unpackKernelAndBusybox } from "./debian-archive.ts";
import { assembleDisk, copyInto, rootPartition } from "./disk-layout.ts";
import { modulesInLoadOrder } from "./kernel-modules.ts";
import { cachedBuild } from "./recipe-cache.ts";
import { TINY_INIT } from "./tiny-init.ts";

const MIB = 1 << 20;
const SIZE = 128 * MIB;
const BOOT_SIZE = 32 * MIB;
const DISK_ID = 0x746e7931;
const MODULES = [
  ...["virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "virtio_scsi"],
  ...["sd_mod", "button", "evdev"],
];
const KERNEL_ARGUMENTS =
  "console=ttyS0 quiet loglevel=3 panic=10 mitigations=off nokaslr random.trust_cpu=on rdinit=/init";

interface TinyGuestOptions {
  /** Where finished disks are kept; a second build of the same recipe gives the first one's disk. */
  readonly directory: string;
  readonly signal: AbortSignal;
}

/** Kernel arguments of a tiny guest that writes records (see `TINY_INIT`), for `setKernelArguments`. */
export const TINY_RECORDS_ARGUMENTS = `${KERNEL_ARGUMENTS} vmrestore.records`;

/**
 * Builds a 128 MiB disk that boots a Linux of kernel and busybox alone, in seconds even without hardware virtualization: for tests
 * that start many machines. Its root partition is ext4 with a journal.
 *
 * @returns the path of the raw disk, which must be copied, not changed
 */
export function buildTinyGuest(options: TinyGuestOptions): Promise<string> {
  const recipe = JSON.stringify([SIZE, BOOT_SIZE, DISK_ID, MODULES, KERNEL_ARGUMENTS, TINY_INIT]);
  return cachedBuild({ directory: options.directory, name: "tiny", recipe }, (scratch, disk) =>
    build(scratch, disk, options.signal),
  );
}

async function build(scratch: string, disk: string, signal: AbortSignal): Promise<void> {
  const packages = await unpackKernelAndBusybox({ scratch, signal });
  const initrd = join(scratch, "initrd.img");
  await writeFile(initrd, await initramfs(packages.busybox, packages.modules));
  const kernel = join(scratch, "vmlinuz");
  await copyFile(packages.kernel, kernel);
  const files = join(scratch, "disk-files");
  await mkdir(files);
  await assembleDisk({
    ...{ path: disk, size: SIZE, bootSize: BOOT_SIZE, kernel, initrd, scratch: files, signal },
    ...{ kernelArguments: KERNEL_ARGUMENTS, diskId: DISK_ID },
  });
  const root = rootPartition({ size: SIZE, bootSize: BOOT_SIZE });
  const filesystem = join(scratch, "root.ext4");
  const file = await open(filesystem, "wx");
  await file.truncate(root.length);
  await file.close();
  await runCommand("mke2fs", ["-q", "-F", "-t", "ext4", "-L", "root", "-E", "root_owner=0:0", filesystem], { signal });
  await copyInto(filesystem, disk, root.offset, signal);
}

async function initramfs(busybox: string, modules: string): Promise<Buffer> {
  const ordered = await modulesInLoadOrder(modules, MODULES);
  const members: CpioMember[] = ["bin", "dev", "proc", "sys", "data", "etc", "run", "tmp", "modules"].map((path) => ({
    path,
    type: "directory",
  }));
  members.push({ path: "bin/busybox", type: "file", data: await readFile(busybox), executable: true });
  members.push({ path: "init", type: "file", data: Buffer.from(TINY_INIT), executable: true });
  const order = ordered.map((path) => `${basename(path)}\n`).join("");
  members.push({ path: "modules/order", type: "file", data: Buffer.from(order), executable: false });
  for (const path of ordered) {
    members.push({ path: `modules/${basename(path)}`, type: "file", data: await readFile(path), executable: false });
  }
  return promisify(gzip)(cpioArchive(members), { level: 6 });
}
