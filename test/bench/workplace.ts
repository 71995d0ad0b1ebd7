import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { bootOnce } from "../../src/lab/guest/boot-once.ts";
import { buildGuestImage } from "../../src/lab/guest/debian-guest.ts";
import { backUp } from "../../src/lab/quickstart/backup.ts";
import { ordersDatabase, VM_NAME } from "../../src/lab/quickstart/virtual-machine.ts";

const run = promisify(execFile);

/** What every section of the benchmark uses: a guest's disk, and a restic repository that holds its backup. */
export interface Workplace {
  readonly directory: string;
  /** The raw disk; never booted from directly. */
  readonly disk: string;
  readonly diskBytes: number;
  readonly repository: string;
  readonly passwordFile: string;
  readonly password: string;
  readonly snapshot: string;
  /** Of the disk in the snapshot, without a slash before it. */
  readonly image: string;
  readonly cliEntry: string;
}

/** Builds it once; a second run of the benchmark uses the same. */
export async function prepareWorkplace(root: string, directory: string): Promise<Workplace> {
  const signal = new AbortController().signal;
  await mkdir(directory, { recursive: true });
  const disk = await buildGuestImage({
    directory: join(root, ".quickstart/guests"),
    signal,
    progress: (text) => process.stdout.write(`${text}\n`),
    bootOnce: async (fresh) =>
      void (await bootOnce({ disk: fresh, accelerator: "tcg", console: join(directory, "first-boot.log"), signal })),
  });
  const password = "benchmark";
  const passwordFile = join(directory, "password");
  const repository = join(directory, "repository");
  await writeFile(passwordFile, password, { mode: 0o600 });
  if (!existsSync(join(repository, "config"))) {
    await backUp({
      repository,
      passwordFile,
      disk,
      manifest: ordersDatabase(),
      host: VM_NAME,
      scratch: join(directory, "scratch"),
      signal,
    });
  }
  const { stdout } = await run("restic", [
    "--no-cache",
    "-r",
    repository,
    "-p",
    passwordFile,
    "snapshots",
    "--json",
    "--latest",
    "1",
  ]);
  const [snapshot] = JSON.parse(stdout) as { id: string }[];
  if (snapshot === undefined) throw new Error("the repository holds no snapshot");
  const { stdout: bytes } = await run("stat", ["-c", "%s", disk]);
  return {
    directory,
    disk,
    diskBytes: Number(bytes),
    repository,
    passwordFile,
    password,
    snapshot: snapshot.id,
    image: "disks/root.img",
    cliEntry: join(root, "dist/cli/main.js"),
  };
}

/** A disk of bytes that neither repeat nor compress, and its backup. */
export interface NoiseDisk {
  readonly directory: string;
  readonly disk: string;
  readonly bytes: number;
  readonly repository: string;
  readonly passwordFile: string;
  readonly password: string;
  readonly snapshot: string;
  /** Of the disk in the snapshot. */
  readonly path: string;
}

/** Half a GiB that does not compress. */
export async function prepareNoise(directory: string): Promise<NoiseDisk> {
  return prepareDisk(directory, "noise", ["if=/dev/urandom", "bs=1M", "count=512"]);
}

/** The same bytes twelve times: as much to copy as takes a while, of which restic stores, and the cache holds, a twelfth. */
export async function prepareRepeatedNoise(directory: string): Promise<NoiseDisk> {
  const { disk } = await prepareNoise(directory);
  return prepareDisk(directory, "repeated", [`if=${disk}`, "bs=1M", "oflag=append", "conv=notrunc"], 12);
}

/** A disk that `dd` makes, called so many times, and a repository that holds a backup of it. A second run uses the same. */
async function prepareDisk(directory: string, name: string, dd: readonly string[], times = 1): Promise<NoiseDisk> {
  await mkdir(directory, { recursive: true });
  const disk = join(directory, `${name}.img`);
  const repository = join(directory, `${name}-repository`);
  const passwordFile = join(directory, "password");
  const password = "benchmark";
  await writeFile(passwordFile, password, { mode: 0o600 });
  const restic = (args: readonly string[]): Promise<{ stdout: string }> =>
    run("restic", ["--no-cache", "-r", repository, "-p", passwordFile, ...args], { cwd: directory });
  if (!existsSync(join(repository, "config"))) {
    await rm(disk, { force: true });
    for (let time = 0; time < times; time++) await run("dd", [...dd, `of=${disk}`, "status=none"]);
    await restic(["init"]);
    await restic(["backup", `${name}.img`]);
  }
  const { size: bytes } = await stat(disk);
  const [snapshot] = JSON.parse((await restic(["snapshots", "--json", "--latest", "1"])).stdout) as { id: string }[];
  if (snapshot === undefined) throw new Error("the repository holds no snapshot");
  return { directory, disk, bytes, repository, passwordFile, password, snapshot: snapshot.id, path: `/${name}.img` };
}
