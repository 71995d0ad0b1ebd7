import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runCommand } from "../quickstart/command.ts";
import { machineAptSources } from "./apt-sources.ts";
import {
  EARLY_FILES,
  ENABLED_UNITS,
  KERNEL_ARGUMENTS,
  LATE_FILES,
  MASKED_UNITS,
  PACKAGES,
  PATH_EXCLUDES,
  ROOT_UUID,
} from "./debian-recipe.ts";
import { assembleDisk, copyInto, rootPartition } from "./disk-layout.ts";
import { cachedBuild } from "./recipe-cache.ts";

const MIB = 1 << 20;
const SIZE = 2048 * MIB;
const BOOT_SIZE = 64 * MIB;
const DISK_ID = 0x64656231;
/** mmdebstrap alone took half a minute on two cores; a slow mirror may take many times that. */
const BUILD_LIMIT_MS = 20 * 60_000;

interface GuestImageOptions {
  /** Where finished disks are kept; a second build of the same recipe gives the first one's disk. */
  readonly directory: string;
  readonly progress: (step: string) => void;
  readonly signal: AbortSignal;
  /** Boots the disk once and shuts it down cleanly, so that it is no fresh image. */
  readonly bootOnce: (disk: string, signal: AbortSignal) => Promise<void>;
}

/**
 * Builds a 2 GiB disk with a real, small Debian of the machine's own release: systemd, nginx, guest agent, boot loader in the image.
 * Works as root, and without where mmdebstrap may use user namespaces.
 *
 * @returns the path of the raw disk, which must be copied, not changed
 */
export async function buildGuestImage(options: GuestImageOptions): Promise<string> {
  const signal = AbortSignal.any([options.signal, AbortSignal.timeout(BUILD_LIMIT_MS)]);
  const sources = await machineAptSources(signal);
  const recipe = JSON.stringify([
    ...[sources.suite, SIZE, BOOT_SIZE, DISK_ID, KERNEL_ARGUMENTS, PACKAGES, PATH_EXCLUDES],
    ...[EARLY_FILES, LATE_FILES, ENABLED_UNITS, MASKED_UNITS, rootHook("")],
  ]);
  return cachedBuild({ directory: options.directory, name: "debian", recipe }, async (scratch, disk) => {
    // Without root, mmdebstrap's processes run under other user ids: they need a directory that these may reach and write.
    const shared = await mkdtemp(join(tmpdir(), "vmrestore-guest-"));
    try {
      await chmod(shared, 0o777);
      options.progress(`installing Debian ${sources.suite} with mmdebstrap`);
      await bootstrap(shared, sources, signal);
      options.progress("putting the disk together");
      await assemble(shared, scratch, disk, signal);
      options.progress("booting it once");
      await options.bootOnce(disk, signal);
    } finally {
      await rm(shared, { recursive: true, force: true });
    }
  });
}

async function bootstrap(
  shared: string,
  sources: { suite: string; lines: readonly string[]; options: readonly string[] },
  signal: AbortSignal,
): Promise<void> {
  const early = await layFiles(join(shared, "early"), EARLY_FILES);
  const late = await layFiles(join(shared, "late"), LATE_FILES);
  const hook = join(shared, "root-hook");
  await writeFile(hook, rootHook(shared));
  await chmod(hook, 0o755);
  await runCommand(
    "mmdebstrap",
    [
      ...["--quiet", "--variant=minbase", "--format=null", `--include=${PACKAGES.join(",")}`],
      ...sources.options.map((option) => `--aptopt=${option}`),
      ...PATH_EXCLUDES.map((path) => `--dpkgopt=path-exclude=${path}`),
      `--setup-hook=cp -r ${early}/. "$1"`,
      `--customize-hook=cp -r ${late}/. "$1"`,
      `--customize-hook=chroot "$1" systemctl --quiet enable ${ENABLED_UNITS.join(" ")}`,
      `--customize-hook=chroot "$1" systemctl --quiet mask ${MASKED_UNITS.join(" ")}`,
      `--customize-hook=${hook}`,
      ...[sources.suite, "/dev/null", ...sources.lines],
    ],
    { signal, env: { TMPDIR: tmpdir() } },
  );
}

/** Runs at the end, inside mmdebstrap's view of users: makes the root filesystem while every file has its right owner. */
function rootHook(shared: string): string {
  const length = rootPartition({ size: SIZE, bootSize: BOOT_SIZE }).length;
  return `#!/bin/sh
set -e
root=$1
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/var/cache/apt/archives/*.deb
rm -f "$root"/var/log/*.log "$root"/var/log/apt/* "$root"/etc/resolv.conf
mkdir -p "$root"/var/log/journal
ln -sf /run/acked "$root"/var/www/html/acked
: >"$root"/etc/machine-id
cp "$root"/boot/vmlinuz-* ${shared}/vmlinuz
cp "$root"/boot/initrd.img-* ${shared}/initrd.img
chmod 0644 ${shared}/vmlinuz ${shared}/initrd.img
view=$(mktemp -d)
# Where nothing can be mounted, mmdebstrap mounted no /proc or /sys into the root either.
mount --bind "$root" "$view" || { rmdir "$view"; view=$root; }
truncate -s ${length} ${shared}/root.ext4
mke2fs -q -F -t ext4 -L root -U ${ROOT_UUID} -E hash_seed=${ROOT_UUID},nodiscard -d "$view" ${shared}/root.ext4
[ "$view" = "$root" ] || { umount "$view"; rmdir "$view"; }
chmod 0644 ${shared}/root.ext4
`;
}

async function layFiles(
  folder: string,
  files: readonly { path: string; text: string; executable?: boolean }[],
): Promise<string> {
  for (const { path, text, executable } of files) {
    const target = join(folder, path);
    await mkdir(join(target, ".."), { recursive: true });
    await writeFile(target, text);
    await chmod(target, executable === true ? 0o755 : 0o644);
  }
  return folder;
}

async function assemble(shared: string, scratch: string, disk: string, signal: AbortSignal): Promise<void> {
  const layout = { size: SIZE, bootSize: BOOT_SIZE };
  await assembleDisk({
    ...{ ...layout, path: disk, diskId: DISK_ID, kernelArguments: KERNEL_ARGUMENTS, scratch, signal },
    ...{ kernel: join(shared, "vmlinuz"), initrd: join(shared, "initrd.img") },
  });
  await copyInto(join(shared, "root.ext4"), disk, rootPartition(layout).offset, signal);
}
