import type { ChildProcess } from "node:child_process";
import { existsSync } from "node:fs";
import { copyFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { BootProfile } from "../../src/api/boot-profile.ts";
import { AgentProcess } from "./agent-process.ts";
import { launch, run } from "./commands.ts";
import { stopProcess } from "./processes.ts";
import { mountSnapshot } from "./restic-mount.ts";
import type { SharingGroup } from "./sharing.ts";
import type { Workplace } from "./workplace.ts";

const BOOT_SET_LIMIT_MS = 30_000;
const START_LIMIT_MS = 30_000;

/** A guest's disk as QEMU opens it. */
export interface OpenDrive {
  /** What follows `-drive`, without interface and cache mode. */
  readonly drive: string;
  /** What `qemu-nbd` is told, so that it serves the same. */
  readonly qemuNbd: readonly string[];
  /** Called when the guest is usable; gives back the share of its reads that found their data staged, where that is known. */
  readonly ready?: () => Promise<number>;
  /** What serves it, where that is ours. */
  readonly agent?: AgentProcess;
  /** Brings the rest of the disk over, where that is asked for and not done by itself; resolves once all is there. */
  readonly relocate?: () => Promise<void>;
  stop(): Promise<void>;
}

/** Puts a disk together from nothing but the repository, in an empty directory. */
export type DriveOpener = (scratch: string) => Promise<OpenDrive>;

type Part = () => Promise<void>;

/** Ends the parts in the opposite order, also where not all of them could be started. */
function opener(
  open: (scratch: string, started: (end: Part) => void) => Promise<Omit<OpenDrive, "stop">>,
): DriveOpener {
  return async (scratch) => {
    const parts: Part[] = [];
    const stop = async (): Promise<void> => {
      for (const end of parts.reverse()) await end();
    };
    try {
      return { ...(await open(scratch, (end) => parts.push(end))), stop };
    } catch (error) {
      await stop();
      throw error;
    }
  };
}

/** The floor: the disk is there already. */
export function localDisk({ disk }: Workplace): DriveOpener {
  return opener(async (scratch) => {
    const copy = join(scratch, "disk.img");
    await copyFile(disk, copy);
    return { drive: `file=${copy},format=raw`, qemuNbd: ["-f", "raw", "--cache=none", copy] };
  });
}

let agents = 0;

/**
 * @param learn where the profile comes from that is given to the agent, if it says so, and where the learned one goes
 * @param sharing with whom the agent shares what it fetches; nobody unless given
 */
export function mediaAgent(
  workplace: Workplace,
  url: string,
  learn: { learned: BootProfile | undefined },
  withProfile: boolean,
  sharing?: SharingGroup,
): DriveOpener {
  return opener(async (scratch, started) => {
    const agent = await AgentProcess.start({
      cliEntry: workplace.cliEntry,
      directory: scratch,
      address: `127.83.0.${(++agents % 250) + 1}`,
      repositoryDir: "/nonexistent",
      password: workplace.password,
      sharing,
      config: {
        repository: { rest: { url } },
        snapshot: { id: workplace.snapshot, pin: false },
        disks: [{ name: "root", path: `/${workplace.image}`, format: "raw", size: workplace.diskBytes }],
        cache: { sizeBytes: 4 * 2 ** 30 },
      },
      ...(withProfile && learn.learned !== undefined ? { profile: learn.learned } : {}),
    });
    started(() => agent.stop());
    await agent.control.setPhase("Staging");
    const { disks } = await agent
      .until((status) => status.bootSet.launchable, BOOT_SET_LIMIT_MS)
      .catch(() => agent.control.status());
    await agent.control.setPhase("Booting");
    const file = `nfs://${agent.address}${disks[0]?.exportPath}/disk.img`;
    return {
      drive: `file=${file},format=raw`,
      qemuNbd: ["-f", "raw", file],
      agent,
      async ready() {
        const { bootSet } = await agent.control.status();
        await agent.control.setPhase("Ready");
        learn.learned = (await agent.control.profile()) ?? learn.learned;
        return bootSet.guestHits / Math.max(1, bootSet.guestReads);
      },
    };
  });
}

/** `restic mount` below a qcow2 overlay. @param copyOnRead whether what was read once stays in the overlay */
export function resticMount(workplace: Workplace, url: string, copyOnRead: boolean): DriveOpener {
  return opener(async (scratch, started) => {
    const mount = await mountSnapshot(workplace, `rest:${url}`, workplace.snapshot, join(scratch, "mount"));
    started(mount.stop);
    const overlay = await makeOverlay(scratch, mount.path(workplace.image));
    // O_DIRECT and locks do not exist on this FUSE mount.
    const options = "file.locking=off,backing.file.locking=off,backing.file.cache.direct=off";
    const image = `driver=qcow2,file.driver=file,file.filename=${overlay},${options}`;
    const filtered = image.split(",").map((option) => `file.${option}`);
    return {
      drive: `file=${overlay},format=qcow2,${options}${copyOnRead ? ",copy-on-read=on" : ""}`,
      qemuNbd: ["--image-opts", copyOnRead ? `driver=copy-on-read,${filtered.join(",")}` : image],
    };
  });
}

/** nbdkit's filters over `restic mount`. */
export function nbdkitFilters(workplace: Workplace, url: string): DriveOpener {
  return opener(async (scratch, started) => {
    const mount = await mountSnapshot(workplace, `rest:${url}`, workplace.snapshot, join(scratch, "mount"));
    started(mount.stop);
    const socket = join(scratch, "nbdkit.sock");
    const filters = ["cow", "cache", "readahead"].map((name) => `--filter=${name}`);
    const nbdkit = launch("nbdkit", ["-f", "-U", socket, ...filters, "file", mount.path(workplace.image)], {
      stdio: "ignore",
    });
    started(() => stopProcess(nbdkit));
    return overSocket(socket, "", nbdkit);
  });
}

/**
 * PBS-like: the guest runs from an overlay over the backup, what it reads is copied (QEMU's stream job sees to that), and the rest is
 * streamed in from the first sector to the last. It stands for that way of doing it, not for any product.
 */
export function streamingOverlay(workplace: Workplace, url: string, begin: "AtOnce" | "WhenAsked"): DriveOpener {
  return opener(async (scratch, started) => {
    const mount = await mountSnapshot(workplace, `rest:${url}`, workplace.snapshot, join(scratch, "mount"));
    started(mount.stop);
    const overlay = await makeOverlay(scratch, mount.path(workplace.image));
    const [socket, monitor] = [join(scratch, "qsd.sock"), join(scratch, "qmp.sock")];
    const nodes = [
      `driver=file,node-name=backup,filename=${mount.path(workplace.image)},read-only=on,locking=off`,
      `driver=file,node-name=file,filename=${overlay},locking=off`,
      "driver=qcow2,node-name=overlay,file=file,backing=backup",
    ];
    const daemon = launch(
      "qemu-storage-daemon",
      [
        ...nodes.flatMap((node) => ["--blockdev", node]),
        ...["--nbd-server", `addr.type=unix,addr.path=${socket}`],
        ...["--export", "type=nbd,id=root,node-name=overlay,name=root,writable=on"],
        ...["--chardev", `socket,path=${monitor},server=on,wait=off,id=monitor`, "--monitor", "chardev=monitor"],
      ],
      { stdio: "ignore" },
    );
    started(() => stopProcess(daemon));
    const drive = await overSocket(socket, "root", daemon);
    const stream = { execute: "block-stream", arguments: { "job-id": "stream", device: "overlay" } };
    if (begin === "AtOnce") await qmp(monitor, stream);
    const relocate = async (): Promise<void> => {
      await qmp(monitor, stream);
      while ((await qmp(monitor, { execute: "query-block-jobs" })).includes('"stream"')) await delay(100);
      await run("sync", ["-d", overlay]);
    };
    return { ...drive, relocate };
  });
}

export function restoredDisk({ passwordFile, snapshot, image }: Workplace, url: string): DriveOpener {
  return opener(async (scratch) => {
    const repository = ["--no-cache", "-r", `rest:${url}`, "-p", passwordFile];
    await run("restic", [...repository, "restore", snapshot, "--target", scratch]);
    const file = join(scratch, image);
    return { drive: `file=${file},format=raw`, qemuNbd: ["-f", "raw", "--cache=none", file] };
  });
}

async function makeOverlay(scratch: string, backing: string): Promise<string> {
  const overlay = join(scratch, "overlay.qcow2");
  await run("qemu-img", ["create", "-q", "-f", "qcow2", "-b", backing, "-F", "raw", overlay]);
  return overlay;
}

async function overSocket(socket: string, name: string, server: ChildProcess): Promise<Omit<OpenDrive, "stop">> {
  const deadline = performance.now() + START_LIMIT_MS;
  while (!existsSync(socket)) {
    if (server.exitCode !== null || performance.now() > deadline)
      throw new Error(`it did not start: ${server.spawnargs.join(" ")}`);
    await delay(20);
  }
  const uri = `nbd+unix:///${name}?socket=${socket}`;
  return { drive: `file=${uri},format=raw`, qemuNbd: ["-f", "raw", uri] };
}

/** One command of QEMU's monitor protocol, over a connection of its own. @returns all that was answered */
async function qmp(path: string, command: object): Promise<string> {
  const socket = connect(path);
  socket.write(`${JSON.stringify({ execute: "qmp_capabilities" })}\n${JSON.stringify(command)}\n`);
  let answers = "";
  for await (const piece of socket) {
    answers += String(piece);
    if (answers.includes('"error"')) throw new Error(`QEMU refused: ${answers}`);
    if (answers.split('"return"').length > 2 && answers.endsWith("\n")) break;
  }
  return answers;
}
