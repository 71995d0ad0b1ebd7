import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { runCommand } from "../quickstart/command.ts";
import { GuestImageError } from "./disk-layout.ts";

/** Debian's kernel for virtual machines; the package itself only names the current one. */
const KERNEL_META_PACKAGE = "linux-image-cloud-amd64";

interface UnpackOptions {
  /** A directory for apt's lists (where the machine has none), archives and the unpacked trees. */
  readonly scratch: string;
  readonly signal: AbortSignal;
}

/** Unpacked Debian packages, straight from the machine's configured apt sources; nothing is installed. */
export interface UnpackedPackages {
  readonly busybox: string;
  readonly kernel: string;
  /** `…/lib/modules/<version>` */
  readonly modules: string;
}

/** Fetches and unpacks Debian's cloud kernel and its static busybox. Needs no root. */
export async function unpackKernelAndBusybox({ scratch, signal }: UnpackOptions): Promise<UnpackedPackages> {
  const apt = await aptOptions(scratch, signal);
  const dependencies = await runCommand("apt-cache", [...apt, "depends", "--important", KERNEL_META_PACKAGE], {
    signal,
  });
  const kernelPackage = /Depends: (linux-image-\S+)/.exec(dependencies)?.[1];
  if (kernelPackage === undefined) {
    throw new GuestImageError(`apt knows no ${KERNEL_META_PACKAGE}`, { hint: "Run `apt-get update` and try again." });
  }
  const tree = join(scratch, "unpacked");
  await mkdir(tree, { recursive: true });
  await runCommand("apt-get", [...apt, "-qq", "download", kernelPackage, "busybox-static"], { cwd: scratch, signal });
  for (const file of await readdir(scratch)) {
    if (file.endsWith(".deb")) await runCommand("dpkg-deb", ["-x", join(scratch, file), tree], { signal });
  }
  const version = kernelPackage.slice("linux-image-".length);
  return {
    busybox: join(tree, "bin", "busybox"),
    kernel: join(tree, "boot", `vmlinuz-${version}`),
    modules: join(tree, "lib", "modules", version),
  };
}

/** apt's own lists where there are any, else lists of our own, fetched now. */
async function aptOptions(scratch: string, signal: AbortSignal): Promise<string[]> {
  const known = await runCommand("apt-cache", ["search", "--names-only", `^${KERNEL_META_PACKAGE}$`], { signal });
  if (known.trim() !== "") return [];
  const state = join(scratch, "apt");
  await mkdir(join(state, "lists", "partial"), { recursive: true });
  await mkdir(join(state, "cache", "archives", "partial"), { recursive: true });
  const options = ["-o", `Dir::State::lists=${join(state, "lists")}`, "-o", `Dir::Cache=${join(state, "cache")}`];
  await runCommand("apt-get", [...options, "-qq", "update"], { signal });
  return options;
}
