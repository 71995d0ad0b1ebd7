import type { Extent } from "../../disk/block-device.ts";
import type { Volume } from "./bounded-disk.ts";
import { readDirectory } from "./ext-directory.ts";
import { type Inode, inodeExtents, readInode } from "./ext-inode.ts";
import { type ExtLayout, readExtLayout } from "./ext-layout.ts";

const MIB = 1024 * 1024;
const ROOT_INODE = 2;
const FILE_LIMIT = 128 * MIB;
/** Of the group descriptors: those of 8 TiB with 4 KiB blocks. */
const DESCRIPTORS_LIMIT = 4 * MIB;
const JOURNAL_LIMIT = 64 * MIB;

/** A directory that a boot looks into, and which of its files it reads. */
interface Look {
  readonly path: string;
  readonly files: RegExp;
  /** How many levels of directories below it are treated the same. */
  readonly depth?: number;
  /** Larger files are left out. */
  readonly fileBytes?: number;
}

const LIBRARIES =
  /^(ld-|lib(c|m|dl|pthread|rt|gcc_s|resolv|systemd|udev|mount|blkid|uuid|selinux|pam|cap|audit|seccomp|crypto|crypt|gcrypt|gpg-error|ssl|lz4|zstd|lzma|z|kmod|acl|attr|pcre|nss|tinfo|tirpc|ip4tc|apparmor|fdisk|dbus|expat)[-._0-9])/;

/** In the order in which a boot needs them: kernel and its first file system, init, then what init reads. */
const LOOKS: readonly Look[] = [
  { path: "/", files: /^(vmlinuz|initrd|ldlinux|extlinux|grub)/ },
  { path: "/boot", files: /^(vmlinu|initr|bzImage|kernel|ldlinux|.*\.(cfg|conf|img|c32|sys)$)/ },
  ...["grub", "grub2", "extlinux", "syslinux", "loader", "EFI"].map((name) => ({
    path: `/boot/${name}`,
    files: /./,
    depth: 2,
    fileBytes: 8 * MIB,
  })),
  ...["/usr/lib/systemd", "/lib/systemd"].map((path) => ({ path, files: /^(systemd|libsystemd)/ })),
  ...["/usr/sbin", "/sbin"].map((path) => ({ path, files: /^(init|agetty|udevd|modprobe|mount|fsck|sulogin)/ })),
  ...["/usr/bin", "/bin"].map((path) => ({ path, files: /^(sh|dash|bash|mount|udevadm|systemctl|kmod|login|dbus-)/ })),
  ...["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/lib64", "/lib"].map((path) => ({
    path,
    files: LIBRARIES,
    fileBytes: 8 * MIB,
  })),
  { path: "/usr/lib/x86_64-linux-gnu/systemd", files: /./ },
  { path: "/etc", files: /./, depth: 2, fileBytes: 256 * 1024 },
  ...["/usr/lib/systemd/system", "/lib/systemd/system"].map((path) => ({
    path,
    files: /./,
    depth: 1,
    fileBytes: 64 * 1024,
  })),
  ...[
    "/usr/lib/udev",
    "/usr/lib/tmpfiles.d",
    "/usr/lib/modules-load.d",
    "/usr/lib/sysctl.d",
    "/usr/lib/sysusers.d",
  ].map((path) => ({ path, files: /./, depth: 1, fileBytes: MIB })),
  ...["/usr/lib/modules", "/lib/modules"].map((path) => ({ path, files: /^modules\./, depth: 1, fileBytes: 8 * MIB })),
  { path: "/var/lib/dbus", files: /./ },
];

/** An ext2, ext3 or ext4 file system: its tables, what {@link LOOKS} finds, and its journal where it will be replayed. */
export async function* extBootSet(volume: Volume): AsyncGenerator<Extent> {
  const layout = await readExtLayout(volume);
  if (layout === undefined) return;
  yield { offset: 0, length: Math.max(4096, layout.blockBytes) };
  yield { ...layout.descriptors, length: Math.min(layout.descriptors.length, DESCRIPTORS_LIMIT) };
  const walk = new Walk(volume, layout);
  for (const look of LOOKS) {
    const number = await walk.find(look.path);
    yield* walk.touched();
    if (number !== undefined) yield* walk.take(look, number, look.depth ?? 0);
  }
  const journal = await readInode(volume, layout, layout.journalInode);
  if (journal === undefined) return;
  yield journal.place;
  yield* inodeExtents(volume, layout, journal, layout.needsRecovery ? JOURNAL_LIMIT : layout.blockBytes);
}

/** Walks directories. What it touches on its way is part of the boot set. */
class Walk {
  readonly #volume: Volume;
  readonly #layout: ExtLayout;
  /** Entries of the directories that were read. */
  readonly #directories = new Map<number, ReadonlyMap<string, number>>();
  readonly #taken = new Set<number>();
  #touched: Extent[] = [];

  constructor(volume: Volume, layout: ExtLayout) {
    this.#volume = volume;
    this.#layout = layout;
  }

  /** What was touched since this was asked last. */
  touched(): Extent[] {
    const touched = this.#touched;
    this.#touched = [];
    return touched;
  }

  /** The directory at a path, by its inode's number; links are not followed. */
  async find(path: string): Promise<number | undefined> {
    let number = ROOT_INODE;
    for (const name of path.split("/").filter((part) => part !== "")) {
      const child = (await this.#entries(number))?.get(name);
      if (child === undefined) return undefined;
      number = child;
    }
    return (await this.#entries(number)) === undefined ? undefined : number;
  }

  /** The files of a directory that are looked for, and those of its directories down to `depth`; each file once. */
  async *take(look: Look, directory: number, depth: number): AsyncGenerator<Extent> {
    for (const [name, number] of (await this.#entries(directory)) ?? []) {
      const isWanted = look.files.test(name);
      if ((!isWanted && depth === 0) || this.#taken.has(number)) continue;
      this.#taken.add(number);
      const inode = await this.#inode(number);
      if (inode?.kind === "directory") {
        // Another look may go deeper into it.
        this.#taken.delete(number);
        if (depth > 0) yield* this.take(look, number, depth - 1);
      }
      yield* this.touched();
      if (inode?.kind !== "file" || !isWanted || inode.size > (look.fileBytes ?? FILE_LIMIT)) continue;
      yield* inodeExtents(this.#volume, this.#layout, inode, FILE_LIMIT);
    }
  }

  async #inode(number: number): Promise<Inode | undefined> {
    const inode = await readInode(this.#volume, this.#layout, number);
    if (inode !== undefined) this.#touched.push(inode.place);
    return inode;
  }

  /** Undefined where it is no directory. */
  async #entries(number: number): Promise<ReadonlyMap<string, number> | undefined> {
    const known = this.#directories.get(number);
    if (known !== undefined) return known;
    const inode = await this.#inode(number);
    if (inode?.kind !== "directory") return undefined;
    const { entries, extents } = await readDirectory(this.#volume, this.#layout, inode);
    this.#touched.push(...extents);
    this.#directories.set(number, entries);
    return entries;
  }
}
