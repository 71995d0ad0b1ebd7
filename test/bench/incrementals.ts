import type { ChildProcess } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { errorMessage } from "../../src/base/errors.ts";
import { launch, run } from "./commands.ts";
import { dropCaches } from "./drop-caches.ts";
import { BYTES, borgEnvironment, type Chain, prepareChain, STEPS } from "./incremental-chain.ts";
import { startOwnServer } from "./own-server.ts";
import { stopProcess } from "./processes.ts";
import { mountSnapshot } from "./restic-mount.ts";
import { type Link, SlowRepository } from "./slow-repository.ts";
import { median, renderTable } from "./table.ts";

const MIB = 2 ** 20;
const NAME = "/inc.img";
/** At random places, the same for all, one after the other. */
const RANDOM_READS = 200;
const MOUNT_LIMIT_MS = 30_000;

/** How the disk is read; both give what belongs into the table. */
interface Reader {
  file(path: string): Promise<number>;
  nbd(uri: string): Promise<number>;
}

const SEQUENTIAL: Reader = {
  file: (path) => rate(() => run("dd", [`if=${path}`, "of=/dev/null", "bs=1M", "status=none"])),
  nbd: (uri) => rate(() => run("nbdcopy", [uri, "null:"])),
};
const RANDOM: Reader = {
  file: (path) => fio("--ioengine=psync", `--filename=${path}`, "--readonly"),
  nbd: (uri) => fio("--ioengine=nbd", `--uri=${uri}`),
};

interface Place {
  /** A directory or the URL of a REST server. */
  readonly repository: string;
  readonly link: Link;
}

type Contender = (chain: Chain, place: Place, step: number, reader: Reader) => Promise<number>;

/**
 * A disk read through so many incrementals, nothing cached: ours over NBD, `restic mount`, `restic restore`, `borg mount`, and a chain
 * of qcow2 overlays with the same changes, which lies here and has no link before it. At 0 ms the repository's directory is read as it
 * is, so that what the programs themselves cost shows; else it is behind the link.
 */
export async function benchIncrementals(place: string, links: readonly Link[], rounds: number): Promise<string> {
  const chain = await prepareChain(join(place, "incrementals"));
  const tables: string[] = [];
  for (const link of links) {
    const slow = link.delayMs > 0 ? await SlowRepository.start(chain.repository, link) : undefined;
    const where =
      slow === undefined ? "in a directory" : `behind ${link.delayMs} ms and ${link.bytesPerSecond / 1e6} MB/s`;
    try {
      const repository = slow?.url ?? chain.repository;
      const sequential = await compare(chain, { repository, link }, SEQUENTIAL, rounds);
      tables.push(
        `Sequential reads through incrementals of 1 % each, ${BYTES / MIB} MiB, repository ${where} (MiB/s, medians of ${rounds} rounds, spread)\n\n${sequential}`,
      );
      const random = await compare(chain, { repository, link }, RANDOM, rounds);
      tables.push(
        `${RANDOM_READS} random reads of 4 KiB, one after the other, repository ${where} (reads/s, medians of ${rounds} rounds, spread)\n\n${random}`,
      );
    } finally {
      await slow?.close();
    }
  }
  return tables.join("\n\n");
}

async function compare(chain: Chain, place: Place, reader: Reader, rounds: number): Promise<string> {
  const contenders: Record<string, Contender> = {
    "VMRestore, cold cache": ours,
    "restic mount": resticMount,
    "borg mount": borgMount,
    "qcow2 chain (local)": qcow2,
    // There is nothing to read at random before all is there.
    ...(reader === SEQUENTIAL ? { "restic restore": resticRestore } : {}),
  };
  const rates = new Map<string, number[]>();
  const failures = new Map<string, string>();
  for (let round = 0; round < rounds; round++) {
    for (const step of STEPS) {
      for (const [name, contender] of Object.entries(contenders)) {
        await dropCaches(chain.directory);
        const key = `${name} ${step}`;
        try {
          rates.set(key, [...(rates.get(key) ?? []), await contender(chain, place, step, reader)]);
        } catch (error) {
          failures.set(name, errorMessage(error)); // one that cannot run here leaves the others alone
        }
      }
    }
  }
  const rows = Object.keys(contenders).map((name) => [
    name,
    ...STEPS.map((step) => {
      const all = rates.get(`${name} ${step}`) ?? [];
      const shown = (value: number): string => value.toFixed(value < 10 ? 1 : 0);
      return all.length === 0
        ? "failed"
        : `${shown(median(all))} (${shown(Math.min(...all))}–${shown(Math.max(...all))})`;
    }),
  ]);
  const complaints = [...failures].map(([name, message]) => `\n${name} failed: ${message}`).join("");
  return `${renderTable(["", ...STEPS.map((step) => `${step} incrementals`)], rows)}${complaints}`;
}

/** @returns MiB/s over the whole disk */
async function rate(body: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await body();
  return BYTES / MIB / ((performance.now() - start) / 1000);
}

/** @returns reads per second */
async function fio(...what: readonly string[]): Promise<number> {
  const load = ["--rw=randread", "--bs=4k", "--iodepth=1", `--size=${BYTES}`, `--number_ios=${RANDOM_READS}`];
  const { stdout } = await run("fio", ["--name=x", ...what, ...load, "--randrepeat=1", "--output-format=json"]);
  const { jobs } = JSON.parse(stdout.slice(stdout.indexOf("{"))) as { jobs: { read: { iops: number } }[] };
  return jobs[0]?.read.iops ?? 0;
}

async function withScratch(body: (scratch: string) => Promise<number>): Promise<number> {
  const scratch = await mkdtemp(join(tmpdir(), "bench-inc-"));
  try {
    return await body(scratch);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** Reads what a server offers on its socket; its start does not count. */
async function overNbd(server: ChildProcess, socket: string, reader: Reader): Promise<number> {
  try {
    while (!existsSync(socket)) {
      if (server.exitCode !== null) throw new Error(`it did not start: ${server.spawnargs.join(" ")}`);
      await delay(20);
    }
    return await reader.nbd(`nbd+unix:///root?socket=${socket}`);
  } finally {
    await stopProcess(server);
  }
}

const ours: Contender = ({ directory, passwordFile, snapshots }, { repository }, step, reader) =>
  withScratch(async (scratch) => {
    const socket = join(scratch, "ours.sock");
    const data = { directory, repository, passwordFile, path: NAME, bytes: BYTES, snapshot: snapshots[step] ?? "" };
    return overNbd(await startOwnServer(data, join(scratch, "state"), socket), socket, reader);
  });

const qcow2: Contender = (chain, _place, step, reader) =>
  withScratch(async (scratch) => {
    const socket = join(scratch, "qemu.sock");
    const args = ["-r", "-t", "-e", "8", "-x", "root", "-f", "qcow2", "-k", socket, chain.qcow2(step)];
    return overNbd(launch("qemu-nbd", args, { stdio: "ignore" }), socket, reader);
  });

const resticMount: Contender = (chain, { repository }, step, reader) =>
  withScratch(async (scratch) => {
    const mount = await mountSnapshot(chain, asRestic(repository), chain.snapshots[step] ?? "", join(scratch, "mount"));
    try {
      return await reader.file(mount.path(NAME));
    } finally {
      await mount.stop();
    }
  });

const resticRestore: Contender = ({ passwordFile, snapshots }, { repository }, step) =>
  withScratch((scratch) => {
    const args = ["--no-cache", "-r", asRestic(repository), "-p", passwordFile, "restore", snapshots[step] ?? ""];
    return rate(() => run("restic", [...args, "--target", scratch]));
  });

/** borg speaks over a pipe to `borg serve`; the link is put into that pipe. */
const borgMount: Contender = ({ directory }, { link }, step, reader) =>
  withScratch(async (scratch) => {
    const [mount, repository] = [join(scratch, "mount"), join(directory, "borg")];
    await mkdir(mount);
    const pipe = `${process.execPath} ${join(import.meta.dirname, "delayed-pipe.ts")} ${link.delayMs} ${link.bytesPerSecond}`;
    const [rsh, url] = link.delayMs > 0 ? [[`BORG_RSH=${pipe}`], `ssh://bench${repository}`] : [[], repository];
    const environment = [...borgEnvironment(join(scratch, "base")), ...rsh];
    const borg = launch("env", [...environment, "borg", "mount", "--foreground", `${url}::${step}`, mount], {
      stdio: "ignore",
    });
    const file = join(mount, "inc.img");
    try {
      const deadline = performance.now() + MOUNT_LIMIT_MS;
      while (!(await stat(file).then(Boolean, () => false))) {
        if (borg.exitCode !== null || performance.now() > deadline)
          throw new Error("borg mount did not come up; it needs Debian's borgbackup and python3-pyfuse3");
        await delay(50);
      }
      return await reader.file(file);
    } finally {
      await run("fusermount3", ["-uz", mount]).catch(() => undefined);
      await stopProcess(borg);
    }
  });

function asRestic(repository: string): string {
  return repository.startsWith("http") ? `rest:${repository}` : repository;
}
