import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, open, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { run } from "./commands.ts";

const MIB = 2 ** 20;
/** Of the disk. */
export const BYTES = 128 * MIB;
/** After how many incrementals it is read. */
export const STEPS = [1, 10, 30] as const;
/** What each incremental changes: one percent of the disk, in runs of 1 MiB. */
const CHANGED_RUNS = 1;

export interface Chain {
  readonly directory: string;
  readonly repository: string;
  readonly passwordFile: string;
  /** By the number of incrementals before it; borg's archives are called by that number. */
  readonly snapshots: readonly string[];
  /** The qcow2 overlay with so many below it. */
  qcow2(step: number): string;
}

/** What borg is told in its environment, so that it asks nothing. @param base where its caches lie */
export function borgEnvironment(base: string): readonly string[] {
  return [`BORG_BASE_DIR=${base}`, "BORG_PASSPHRASE=benchmark", "BORG_RELOCATED_REPO_ACCESS_IS_OK=yes"];
}

/** Builds it once; a second run of the benchmark uses the same. */
export async function prepareChain(directory: string): Promise<Chain> {
  const [repository, passwordFile] = [join(directory, "repository"), join(directory, "password")];
  const snapshotsFile = join(directory, "snapshots.json");
  const qcow2 = (step: number): string => join(directory, `${step}.qcow2`);
  if (!existsSync(snapshotsFile)) {
    await rm(directory, { recursive: true, force: true });
    await mkdir(directory, { recursive: true });
    await writeFile(passwordFile, "benchmark", { mode: 0o600 });
    const disk = join(directory, "inc.img");
    const restic = (args: readonly string[]): Promise<{ stdout: string }> =>
      run("restic", ["--no-cache", "-r", repository, "-p", passwordFile, ...args], { cwd: directory });
    await restic(["init"]);
    const borg = (args: readonly string[]): Promise<unknown> =>
      run("env", [...borgEnvironment(join(directory, "borg-base")), "borg", ...args], { cwd: directory });
    await borg(["init", "--encryption=repokey", "borg"]);
    const handle = await open(disk, "w+");
    for (let at = 0; at < BYTES; at += MIB) await handle.write(randomBytes(MIB), 0, MIB, at);
    const snapshots: string[] = [];
    const change = join(directory, "change");
    for (let step = 0; step <= Math.max(...STEPS); step++) {
      if (step === 0) await run("qemu-img", ["convert", "-O", "qcow2", disk, qcow2(0)]);
      else await run("qemu-img", ["create", "-q", "-f", "qcow2", "-b", qcow2(step - 1), "-F", "qcow2", qcow2(step)]);
      for (let runs = 0; step > 0 && runs < CHANGED_RUNS; runs++) {
        const at = ((step * 37 + runs * 11) % (BYTES / MIB)) * MIB;
        const bytes = randomBytes(MIB);
        await handle.write(bytes, 0, MIB, at);
        await writeFile(change, bytes);
        await run("qemu-io", ["-f", "qcow2", "-c", `write -s ${change} ${at} ${MIB}`, qcow2(step)]);
      }
      const { stdout } = await restic(["backup", "--json", "inc.img"]);
      const summary = JSON.parse(stdout.trim().split("\n").at(-1) ?? "{}") as { snapshot_id: string };
      snapshots.push(summary.snapshot_id);
      await borg(["create", "--compression", "zstd,3", `borg::${step}`, "inc.img"]);
    }
    await handle.close();
    const all = JSON.parse((await restic(["snapshots", "--json"])).stdout) as { id: string }[];
    const whole = snapshots.map((id) => all.find((snapshot) => snapshot.id.startsWith(id))?.id ?? id);
    await writeFile(snapshotsFile, JSON.stringify(whole));
  }
  const snapshots = JSON.parse(await readFile(snapshotsFile, "utf8")) as string[];
  return { directory, repository, passwordFile, snapshots, qcow2 };
}
