import { existsSync } from "node:fs";
import { link, mkdir, rm, writeFile } from "node:fs/promises";
import { extname, join } from "node:path";
import { stringify } from "yaml";
import { runCommand } from "./command.ts";

interface BackupOptions {
  /** The restic repository's directory; made where it does not exist. */
  readonly repository: string;
  readonly passwordFile: string;
  /** The guest's disk, whose name's ending tells its format: `.img` is raw. */
  readonly disk: string;
  readonly manifest: object;
  readonly host: string;
  /** A scratch directory on the disk's filesystem. */
  readonly scratch: string;
  readonly signal: AbortSignal;
}

/** Backs up one VM, disk and manifest, with the real `restic`, laid out as the operator looks for it. */
export async function backUp(options: BackupOptions): Promise<void> {
  const restic = (args: string[], cwd?: string): Promise<string> =>
    runCommand(
      "restic",
      ["--no-cache", "--repo", options.repository, "--password-file", options.passwordFile, ...args],
      {
        signal: options.signal,
        ...(cwd === undefined ? {} : { cwd }),
      },
    );
  if (!existsSync(join(options.repository, "config"))) await restic(["init", "--repository-version", "2"]);

  const staging = join(options.scratch, options.host);
  await rm(staging, { recursive: true, force: true });
  await mkdir(join(staging, "disks"), { recursive: true });
  // A hard link: restic reads the disk in place, no second copy of it is made.
  await link(options.disk, join(staging, "disks", `root${extname(options.disk)}`));
  await writeFile(join(staging, "virtualmachine.yaml"), stringify(options.manifest));
  await restic(["backup", "--host", options.host, "--tag", "virtual-machine", "disks", "virtualmachine.yaml"], staging);
  await rm(staging, { recursive: true, force: true });
}

/** How long `restic restore` alone takes to bring the whole snapshot back, in milliseconds. */
export async function timeFullRestore(
  options: Pick<BackupOptions, "repository" | "passwordFile" | "host" | "scratch" | "signal">,
): Promise<number> {
  const target = join(options.scratch, "full-restore");
  await rm(target, { recursive: true, force: true });
  const start = performance.now();
  await runCommand(
    "restic",
    ["--no-cache", "--repo", options.repository, "--password-file", options.passwordFile, "restore", "latest"].concat([
      "--host",
      options.host,
      "--target",
      target,
    ]),
    { signal: options.signal },
  );
  const elapsed = performance.now() - start;
  await rm(target, { recursive: true, force: true });
  return elapsed;
}
