import { execFile, spawn } from "node:child_process";
import { copyFile, mkdir, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import type { BootProfile } from "../../src/api/boot-profile.ts";
import { AgentProcess } from "./agent-process.ts";
import { bootUntilPage } from "./boot.ts";
import { SlowRepository } from "./slow-repository.ts";
import { median, renderTable } from "./table.ts";
import type { Workplace } from "./workplace.ts";

const run = promisify(execFile);
const BOOT_SET_LIMIT_MS = 30_000;

interface Outcome {
  /** From nothing but the repository to the guest's page, milliseconds. */
  readonly usable: number;
  /** Of that, from power-on to the page. */
  readonly boot: number;
  /** Share of the guest's reads while booting that found their data staged. */
  readonly hits?: number;
}

type Contender = (scratch: string) => Promise<Outcome>;

interface Options {
  readonly workplace: Workplace;
  readonly delayMs: number;
  readonly bytesPerSecond: number;
  readonly rounds: number;
}

/** Time until the guest is usable, for each way of getting there, over one and the same link to the repository. */
export async function benchTimeToUsable({ workplace, delayMs, bytesPerSecond, rounds }: Options): Promise<string> {
  const link = await SlowRepository.start(workplace.repository, { delayMs, bytesPerSecond });
  const profile: { learned: BootProfile | undefined } = { learned: undefined };
  const contenders: Record<string, Contender> = {
    "local disk": (scratch) => localDisk(workplace, scratch),
    "VMRestore, cold": (scratch) => mediaAgent(workplace, link, scratch, undefined, profile),
    "VMRestore, learned profile": (scratch) => mediaAgent(workplace, link, scratch, profile.learned, profile),
    "restic mount + overlay": (scratch) => resticMount(workplace, link, scratch),
    "restic restore, then boot": (scratch) => restoreThenBoot(workplace, link, scratch),
  };
  const results = new Map<string, { outcome: Outcome; bytes: number }[]>();
  try {
    for (let round = 0; round < rounds; round++) {
      for (const [name, contender] of Object.entries(contenders)) {
        const scratch = await mkdtemp(join(workplace.directory, "run-"));
        link.takeCounters();
        const outcome = await contender(scratch);
        const { bytes } = link.takeCounters();
        await rm(scratch, { recursive: true, force: true });
        results.set(name, [...(results.get(name) ?? []), { outcome, bytes }]);
        process.stdout.write(`   round ${round + 1}: ${name}: ${(outcome.usable / 1000).toFixed(1)} s\n`);
      }
    }
  } finally {
    await link.close();
  }
  const floor = median((results.get("local disk") ?? []).map(({ outcome }) => outcome.usable));
  const rows = [...results].map(([name, all]) => {
    const usable = all.map(({ outcome }) => outcome.usable);
    const seconds = (ms: number): string => (ms / 1000).toFixed(1);
    const hits = all.at(-1)?.outcome.hits;
    return [
      name,
      `${seconds(median(usable))} s`,
      `${seconds(Math.min(...usable))}–${seconds(Math.max(...usable))}`,
      `${(median(usable) / floor).toFixed(2)} ×`,
      `${seconds(median(all.map(({ outcome }) => outcome.boot)))} s`,
      `${(median(all.map(({ bytes }) => bytes)) / 2 ** 20).toFixed(0)} MiB`,
      hits === undefined ? "" : `${(hits * 100).toFixed(1)} %`,
    ];
  });
  const title = `Time to usable (Debian guest under emulation; repository behind ${delayMs} ms and ${bytesPerSecond / 1e6} MB/s; ${rounds} rounds, interleaved)`;
  return `${title}\n\n${renderTable(["", "median", "spread", "to local disk", "boot alone", "fetched", "boot-set hits"], rows)}`;
}

async function localDisk({ disk }: Workplace, scratch: string): Promise<Outcome> {
  const copy = join(scratch, "disk.img");
  await copyFile(disk, copy);
  const boot = await bootUntilPage(`file=${copy},format=raw`);
  return { usable: boot, boot };
}

let agents = 0;

async function mediaAgent(
  workplace: Workplace,
  link: SlowRepository,
  scratch: string,
  profile: BootProfile | undefined,
  learn: { learned: BootProfile | undefined },
): Promise<Outcome> {
  const start = performance.now();
  const agent = await AgentProcess.start({
    cliEntry: workplace.cliEntry,
    directory: scratch,
    address: `127.83.0.${++agents}`,
    repositoryDir: "/nonexistent",
    password: workplace.password,
    config: {
      repository: { rest: { url: link.url } },
      snapshot: { id: workplace.snapshot, pin: false },
      disks: [{ name: "root", path: "/disks/root.img", format: "raw", size: workplace.diskBytes }],
      cache: { sizeBytes: 4 * 2 ** 30 },
    },
    ...(profile === undefined ? {} : { profile }),
  });
  try {
    await agent.control.setPhase("Staging");
    const { disks } = await agent
      .until((status) => status.bootSet.launchable, BOOT_SET_LIMIT_MS)
      .catch(() => agent.control.status());
    await agent.control.setPhase("Booting");
    let hits = 0;
    const drive = `file=nfs://${agent.address}${disks[0]?.exportPath}/disk.img,format=raw`;
    let usable = 0;
    const boot = await bootUntilPage(drive, async () => {
      usable = performance.now() - start;
      const { bootSet } = await agent.control.status();
      hits = bootSet.guestHits / Math.max(1, bootSet.guestReads);
      await agent.control.setPhase("Ready");
      learn.learned = (await agent.control.profile()) ?? learn.learned;
    });
    return { usable, boot, hits };
  } finally {
    await agent.stop();
  }
}

async function resticMount(
  { passwordFile, snapshot }: Workplace,
  link: SlowRepository,
  scratch: string,
): Promise<Outcome> {
  const mount = join(scratch, "mount");
  await mkdir(mount);
  const start = performance.now();
  const restic = spawn("restic", ["--no-cache", "-r", `rest:${link.url}`, "-p", passwordFile, "mount", mount], {
    stdio: "ignore",
  });
  try {
    const image = join(mount, "ids", snapshot.slice(0, 8), "disks/root.img");
    while (
      !(await run("stat", [image]).then(
        () => true,
        () => false,
      ))
    ) {
      if (restic.exitCode !== null) throw new Error("restic mount ended; it needs FUSE and Debian's package fuse3");
      await delay(100);
    }
    const overlay = join(scratch, "overlay.qcow2");
    await run("qemu-img", ["create", "-q", "-f", "qcow2", "-b", image, "-F", "raw", overlay]);
    // O_DIRECT does not exist on this FUSE mount.
    const boot = await bootUntilPage(
      `file=${overlay},format=qcow2,file.locking=off,backing.file.locking=off,backing.file.cache.direct=off`,
    );
    return { usable: performance.now() - start, boot };
  } finally {
    const ended = new Promise((resolve) => restic.once("exit", resolve));
    restic.kill("SIGINT");
    await Promise.race([
      ended,
      delay(10_000)
        .then(() => run("fusermount3", ["-uz", mount]))
        .catch(() => undefined),
    ]);
    restic.kill("SIGKILL");
  }
}

async function restoreThenBoot(
  { passwordFile, snapshot }: Workplace,
  link: SlowRepository,
  scratch: string,
): Promise<Outcome> {
  const start = performance.now();
  await run("restic", [
    "--no-cache",
    "-r",
    `rest:${link.url}`,
    "-p",
    passwordFile,
    "restore",
    snapshot,
    "--target",
    scratch,
  ]);
  const boot = await bootUntilPage(`file=${join(scratch, "disks/root.img")},format=raw`);
  return { usable: performance.now() - start, boot };
}
