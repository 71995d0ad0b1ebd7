import { open, readFile, rm, writeFile } from "node:fs/promises";
import { VmRestoreError } from "../../base/errors.ts";
import { runCommand } from "../quickstart/command.ts";

const MIB = 1 << 20;
const SECTOR = 512;
/** Partitions start on a megabyte, as every current partitioning program does. */
const BOOT_OFFSET = MIB;
const TABLE_OFFSET = 446;
const TYPE_FAT_LBA = 0x0c;
const TYPE_LINUX = 0x83;
const ACTIVE = 0x80;
const MBR_CODE = "/usr/lib/syslinux/mbr/mbr.bin";

/** A guest disk cannot be put together from what was given. */
export class GuestImageError extends VmRestoreError {
  constructor(message: string, options: { cause?: unknown; hint?: string } = {}) {
    super("GUEST_IMAGE_FAILED", message, options);
  }
}

interface PartitionEntry {
  readonly active: boolean;
  readonly type: number;
  /** Bytes, multiples of 512. */
  readonly offset: number;
  readonly length: number;
}

/** A master boot record: boot code, table of up to four primary partitions, signature. Addresses are LBA only. */
export function masterBootRecord(code: Uint8Array, diskId: number, partitions: readonly PartitionEntry[]): Buffer {
  if (code.length > 440 || partitions.length > 4) throw new GuestImageError("boot code or partition table too large");
  const sector = Buffer.alloc(SECTOR);
  sector.set(code, 0);
  sector.writeUInt32LE(diskId >>> 0, 440);
  for (const [index, partition] of partitions.entries()) {
    const at = TABLE_OFFSET + index * 16;
    sector.writeUInt8(partition.active ? ACTIVE : 0, at);
    // CHS fields say "beyond what CHS can address", so that every reader goes by the LBA fields.
    sector.set([0xfe, 0xff, 0xff], at + 1);
    sector.writeUInt8(partition.type, at + 4);
    sector.set([0xfe, 0xff, 0xff], at + 5);
    sector.writeUInt32LE(partition.offset / SECTOR, at + 8);
    sector.writeUInt32LE(partition.length / SECTOR, at + 12);
  }
  sector.writeUInt16LE(0xaa55, 510);
  return sector;
}

interface DiskLayout {
  /** Where the raw disk goes; must not exist. */
  readonly path: string;
  /** Bytes of the whole disk, a multiple of 1 MiB. */
  readonly size: number;
  /** Bytes of the FAT partition that holds boot loader, kernel and initrd, a multiple of 1 MiB. */
  readonly bootSize: number;
  readonly kernel: string;
  readonly initrd: string;
  readonly kernelArguments: string;
  readonly diskId: number;
  /** An empty directory for intermediate files, on the same filesystem. */
  readonly scratch: string;
  readonly signal: AbortSignal;
}

/** Bytes that the root partition of a disk of this layout has; it begins right behind the boot partition. */
export function rootPartition(layout: Pick<DiskLayout, "size" | "bootSize">): { offset: number; length: number } {
  const offset = BOOT_OFFSET + layout.bootSize;
  return { offset, length: layout.size - offset };
}

function loaderConfiguration(kernelArguments: string): string {
  return `DEFAULT linux\nPROMPT 0\nTIMEOUT 0\nLABEL linux\n  KERNEL /vmlinuz\n  INITRD /initrd.img\n  APPEND ${kernelArguments}\n`;
}

/**
 * Puts a bootable raw disk together without loop devices or mounts: MBR, a FAT partition with syslinux, kernel and initrd, and room
 * for the root partition, which the caller fills at `rootPartition(layout).offset`. The file is sparse.
 */
export async function assembleDisk(layout: DiskLayout): Promise<void> {
  const run = (program: string, args: string[], env: Record<string, string> = {}): Promise<string> =>
    runCommand(program, args, { signal: layout.signal, env });
  const fat = `${layout.scratch}/boot.fat`;
  const configuration = `${layout.scratch}/syslinux.cfg`;
  const sectors = layout.bootSize / SECTOR;
  await run("mkfs.vfat", [
    ...["-C", fat, "-n", "BOOT", "-i", layout.diskId.toString(16).padStart(8, "0")],
    ...["-F", "16", "-h", String(BOOT_OFFSET / SECTOR), "--invariant", String(sectors / 2)],
  ]);
  await writeFile(configuration, loaderConfiguration(layout.kernelArguments));
  await run("mcopy", ["-i", fat, layout.kernel, "::/vmlinuz"]);
  await run("mcopy", ["-i", fat, layout.initrd, "::/initrd.img"]);
  await run("mcopy", ["-i", fat, configuration, "::/syslinux.cfg"]);
  await run("syslinux", ["--install", fat]);

  const root = rootPartition(layout);
  const record = masterBootRecord(await readFile(MBR_CODE), layout.diskId, [
    { active: true, type: TYPE_FAT_LBA, offset: BOOT_OFFSET, length: layout.bootSize },
    { active: false, type: TYPE_LINUX, ...root },
  ]);
  const disk = await open(layout.path, "wx");
  try {
    await disk.truncate(layout.size);
    await disk.write(record, 0, SECTOR, 0);
  } finally {
    await disk.close();
  }
  await copyInto(fat, layout.path, BOOT_OFFSET, layout.signal);
}

/** Copies a file's data into a disk at a byte offset (a multiple of 1 MiB), leaving holes where the source is zero. */
export function copyInto(source: string, disk: string, offset: number, signal: AbortSignal): Promise<string> {
  return runCommand(
    "dd",
    [`if=${source}`, `of=${disk}`, "bs=1M", `seek=${offset / MIB}`, "conv=notrunc,sparse", "status=none"],
    { signal },
  );
}

/** Replaces the kernel's arguments in a disk that `assembleDisk` made. Needs no rights beyond writing the file. */
export async function setKernelArguments(disk: string, kernelArguments: string, signal: AbortSignal): Promise<void> {
  const configuration = `${disk}.syslinux.cfg`;
  await writeFile(configuration, loaderConfiguration(kernelArguments));
  try {
    await runCommand("mcopy", ["-o", "-i", `${disk}@@${BOOT_OFFSET}`, configuration, "::/syslinux.cfg"], { signal });
  } finally {
    await rm(configuration, { force: true });
  }
}
