import type { ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, open, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { launch, run } from "./commands.ts";
import { startOwnServer } from "./own-server.ts";
import { stopProcess } from "./processes.ts";
import { mountSnapshot } from "./restic-mount.ts";
import { median, renderTable } from "./table.ts";

const MIB = 2 ** 20;
const BYTES = 128 * MIB;
const STEPS = [1, 10, 30] as const;
/** What each incremental changes: one percent of the disk, in runs of 1 MiB. */
const CHANGED_RUNS = 1;
const NAME = "/inc.img";

interface Chain {
  readonly directory: string;
  readonly repository: string;
  readonly passwordFile: string;
  /** By the number of incrementals before it. */
  readonly snapshots: readonly string[];
  /** The qcow2 overlay with so many below it. */
  qcow2(step: number): string;
}

/**
 * The whole disk read through so many incrementals, nothing cached but the repository's own files: ours over NBD, `restic mount`,
 * `restic restore`, and a chain of qcow2 overlays with the same changes.
 */
export async function benchIncrementals(place: string, rounds: number): Promise<string> {
  const chain = await prepareChain(join(place, "incrementals"));
  const contenders: Record<string, (step: number) => Promise<number>> = {
    "VMRestore, cold cache": (step) => ours(chain, step),
    "restic mount": (step) => resticMount(chain, step),
    "restic restore": (step) => resticRestore(chain, step),
    "qcow2 chain (local)": (step) => qcow2(chain, step),
  };
  const rates = new Map<string, number[]>();
  for (let round = 0; round < rounds; round++) {
    for (const step of STEPS) {
      for (const [name, contender] of Object.entries(contenders)) {
        const seconds = await contender(step);
        rates.set(`${name} ${step}`, [...(rates.get(`${name} ${step}`) ?? []), BYTES / MIB / seconds]);
      }
    }
  }
  const rows = Object.keys(contenders).map((name) => [
    name,
    ...STEPS.map((step) => median(rates.get(`${name} ${step}`) ?? []).toFixed(0)),
  ]);
  const title = `Sequential reads through incrementals of 1 % each, ${BYTES / MIB} MiB (MiB/s, medians of ${rounds} rounds)`;
  return `${title}\n\n${renderTable(["", ...STEPS.map((step) => `${step} incrementals`)], rows)}`;
}

async function prepareChain(directory: string): Promise<Chain> {
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
    }
    await handle.close();
    const all = JSON.parse((await restic(["snapshots", "--json"])).stdout) as { id: string }[];
    const whole = snapshots.map((id) => all.find((snapshot) => snapshot.id.startsWith(id))?.id ?? id);
    await writeFile(snapshotsFile, JSON.stringify(whole));
  }
  const snapshots = JSON.parse(await readFile(snapshotsFile, "utf8")) as string[];
  return { directory, repository, passwordFile, snapshots, qcow2 };
}

async function timed(body: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await body();
  return (performance.now() - start) / 1000;
}

async function withScratch(body: (scratch: string) => Promise<number>): Promise<number> {
  const scratch = await mkdtemp(join(tmpdir(), "bench-inc-"));
  try {
    return await body(scratch);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** Reads all of what a server offers on its socket; its start does not count. */
async function overNbd(server: ChildProcess, socket: string): Promise<number> {
  try {
    while (!existsSync(socket)) {
      if (server.exitCode !== null) throw new Error(`it did not start: ${server.spawnargs.join(" ")}`);
      await delay(20);
    }
    return await timed(() => run("nbdcopy", [`nbd+unix:///root?socket=${socket}`, "null:"]));
  } finally {
    await stopProcess(server);
  }
}

function ours({ directory, repository, passwordFile, snapshots }: Chain, step: number): Promise<number> {
  return withScratch(async (scratch) => {
    const socket = join(scratch, "ours.sock");
    const data = { directory, repository, passwordFile, path: NAME, bytes: BYTES, snapshot: snapshots[step] ?? "" };
    return overNbd(await startOwnServer(data, join(scratch, "state"), socket), socket);
  });
}

function qcow2(chain: Chain, step: number): Promise<number> {
  return withScratch(async (scratch) => {
    const socket = join(scratch, "qemu.sock");
    const args = ["-r", "-t", "-e", "8", "-x", "root", "-f", "qcow2", "-k", socket, chain.qcow2(step)];
    return overNbd(launch("qemu-nbd", args, { stdio: "ignore" }), socket);
  });
}

function resticMount(chain: Chain, step: number): Promise<number> {
  return withScratch(async (scratch) => {
    const mount = await mountSnapshot(chain, chain.repository, chain.snapshots[step] ?? "", join(scratch, "mount"));
    try {
      return await timed(() => run("dd", [`if=${mount.path(NAME)}`, "of=/dev/null", "bs=1M", "status=none"]));
    } finally {
      await mount.stop();
    }
  });
}

function resticRestore({ repository, passwordFile, snapshots }: Chain, step: number): Promise<number> {
  return withScratch((scratch) => {
    const args = ["--no-cache", "-r", repository, "-p", passwordFile, "restore", snapshots[step] ?? ""];
    return timed(() => run("restic", [...args, "--target", scratch]));
  });
}
