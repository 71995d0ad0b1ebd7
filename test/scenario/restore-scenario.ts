import { type ChildProcess, execFile, spawn } from "node:child_process";
import { openSync, readdirSync, readFileSync } from "node:fs";
import { copyFile, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { parse, stringify } from "yaml";
import type { VMRestoreStatus } from "../../src/api/vm-restore-status.ts";
import { rootPartition, setKernelArguments } from "../../src/lab/guest/disk-layout.ts";
import { guestCacheDirectory } from "../../src/lab/guest/recipe-cache.ts";
import { buildTinyGuest, TINY_RECORDS_ARGUMENTS } from "../../src/lab/guest/tiny-guest.ts";
import { type Lab, startLab } from "../../src/lab/lab.ts";
import { backUp } from "../../src/lab/quickstart/backup.ts";
import { Cluster } from "../../src/lab/quickstart/cluster.ts";
import { OPERATOR_NAMESPACE, repositoryManifests } from "../../src/lab/quickstart/manifests.ts";
import { ordersDatabase, VM_NAME } from "../../src/lab/quickstart/virtual-machine.ts";
import { operatorKubeconfig, REPOSITORY_ON_THIS_MACHINE } from "./operator-account.ts";

const run = promisify(execFile);
const ROOT = join(import.meta.dirname, "../..");
const CLI = join(ROOT, "src/cli/main.ts");
const MIB = 2 ** 20;
const TINY = { size: 128 * MIB, bootSize: 32 * MIB };
const LOOK_EVERY_MS = 50;

/** Which processes a test may kill: as the kernel would, without warning. */
export type Victim = "media-agent" | "relocate" | "operator";

/** How qemu-img writes what a backup may hold beside raw images: each so that it has tables, and gaps. */
const WRITTEN_AS = {
  qcow2: ["-O", "qcow2", "-c"],
  vmdk: ["-O", "vmdk", "-o", "subformat=streamOptimized"],
  vhd: ["-O", "vpc", "-o", "force_size=on"],
  vhdx: ["-O", "vhdx"],
} as const;

export type BackupFormat = "raw" | keyof typeof WRITTEN_AS;

export const BACKUP_FORMATS: readonly BackupFormat[] = ["raw", "qcow2", "vmdk", "vhd", "vhdx"];

/** What the guest was told is written: which boot wrote which record. */
export interface Acknowledged {
  readonly record: number;
  readonly boot: number;
}

/**
 * A whole restore in a lab of its own: a tiny guest that writes numbered, fsynced records from the moment it boots, its backup by
 * restic, the operator as a process.
 */
export class RestoreScenario {
  readonly directory: string;
  readonly cluster: Cluster;
  readonly #lab: Lab;
  readonly #operatorKubeconfig: string;
  readonly #signal: AbortSignal;
  #operator: ChildProcess;
  #ending = false;

  private constructor(directory: string, lab: Lab, kubeconfig: string, signal: AbortSignal) {
    this.directory = directory;
    this.#lab = lab;
    this.#operatorKubeconfig = kubeconfig;
    this.#signal = signal;
    this.cluster = new Cluster(lab.kubeconfigPath);
    this.#operator = this.#startOperator();
  }

  /** The lab, the operator, and the backup in its volume: what is there before anything is restored. */
  static async prepare(signal: AbortSignal, format: BackupFormat = "raw"): Promise<RestoreScenario> {
    const directory = await mkdtemp(join(tmpdir(), "restore-"));
    const raw = join(directory, "guest.img");
    await copyFile(await buildTinyGuest({ directory: guestCacheDirectory(), signal }), raw);
    await setKernelArguments(raw, TINY_RECORDS_ARGUMENTS, signal);
    const disk = format === "raw" ? raw : join(directory, `guest.${format}`);
    if (format !== "raw") await run("qemu-img", ["convert", "-f", "raw", ...WRITTEN_AS[format], raw, disk], { signal });
    const repository = join(directory, "repository");
    const passwordFile = join(directory, "password");
    await writeFile(passwordFile, "scenario", { mode: 0o600 });
    const scratch = join(directory, "scratch");
    await backUp({ repository, passwordFile, disk, manifest: ordersDatabase(), host: VM_NAME, scratch, signal });
    const lab = await startLab({ directory: join(directory, "lab"), cliEntry: CLI, crds: join(ROOT, "crds") });
    const kubeconfig = await operatorKubeconfig(lab, REPOSITORY_ON_THIS_MACHINE);
    const scenario = new RestoreScenario(directory, lab, kubeconfig, signal);
    await scenario.#apply("repository.yaml", repositoryManifests({ directory: repository, password: "scenario" }));
    return scenario;
  }

  /** @param spec is laid over the spec of examples/vmrestore.yaml, which is applied then */
  static async start(
    spec: Record<string, unknown>,
    signal: AbortSignal,
    format?: BackupFormat,
  ): Promise<RestoreScenario> {
    const scenario = await RestoreScenario.prepare(signal, format);
    const example = parse(await readFile(join(ROOT, "examples/vmrestore.yaml"), "utf8")) as {
      spec: Record<string, unknown>;
    };
    example.spec = { ...example.spec, ...spec };
    const repository = await readFile(join(ROOT, "examples/backuprepository.yaml"), "utf8");
    await scenario.#apply("restore.yaml", [repository, stringify(example)].join("---\n"));
    return scenario;
  }

  /** Waits until the restore's status is as wanted. */
  async until(wanted: (status: VMRestoreStatus) => boolean): Promise<VMRestoreStatus> {
    for (;;) {
      const status = await this.cluster.restoreStatus(VM_NAME);
      if (status?.phase === "Failed") throw new Error(`the restore failed: ${status.message}`);
      if (status !== undefined && wanted(status)) return status;
      await this.look();
    }
  }

  /** The pause between two looks at something that is waited for. Rejects when the scenario's time is over. */
  async look(): Promise<void> {
    await delay(LOOK_EVERY_MS, undefined, { signal: this.#signal });
  }

  /** Kills a process of this scenario; waits until there is one. The operator is started again, as its Deployment would. */
  async kill(victim: Victim): Promise<void> {
    if (victim === "operator") {
      this.#operator.kill("SIGKILL");
      return;
    }
    while (!this.#ending) {
      const found = this.#processes(victim);
      for (const pid of found) process.kill(pid, "SIGKILL");
      if (found.length > 0) return;
      await this.look();
    }
  }

  /** What each of the machine's consoles said: one for each launcher pod. */
  async consoles(): Promise<string[]> {
    const folder = join(this.directory, "lab/consoles");
    return Promise.all((await readdir(folder)).map((name) => readFile(join(folder, name), "utf8")));
  }

  /** Every record that a guest was told is on its disk, from the serial consoles of all its boots. */
  async acknowledged(): Promise<Acknowledged[]> {
    const consoles = join(this.directory, "lab/consoles");
    const all: Acknowledged[] = [];
    for (const name of await readdir(consoles).catch(() => [])) {
      const text = await readFile(join(consoles, name), "utf8");
      // A guest that was moved here while it ran says nothing of its boot, which was the first.
      const boot = Number(/TINY READY boots=(\d+)/.exec(text)?.[1] ?? 1);
      for (const [, record] of text.matchAll(/^ACK (\d+)\r?$/gm)) all.push({ record: Number(record), boot });
    }
    return all;
  }

  /** Halts the machine and gives back what lies on its target volume: its records, after a check of the filesystem. */
  async readTarget(): Promise<string[]> {
    await this.#halt();
    return this.#recordsOn(join(this.directory, "lab/volumes", await this.#volumeName(), "disk.img"));
  }

  /** The same of a machine that runs from the media agent: its disk as that serves it. */
  async readServed(): Promise<string[]> {
    await this.#halt();
    const where = "jsonpath=nfs://{.spec.nfs.server}{.spec.nfs.path}/disk.img";
    const url = await this.kubectl("get", "persistentvolume", await this.#volumeName(), "-o", where);
    const image = join(this.directory, "served.img");
    await run("qemu-img", ["convert", "-f", "raw", "-O", "raw", url, image], { signal: this.#signal });
    return this.#recordsOn(image);
  }

  /** Runs kubectl as somebody who may do everything; gives back what it printed. */
  kubectl(...args: readonly string[]): Promise<string> {
    return this.cluster.kubectl(args, this.#signal);
  }

  async #halt(): Promise<void> {
    const patch = '{"spec":{"runStrategy":"Halted"}}';
    await this.kubectl("patch", "virtualmachine", VM_NAME, "--type", "merge", "-p", patch);
    // `kubectl wait --for=delete` of an older kubectl fails where the object is gone already.
    const instance = ["get", "virtualmachineinstance", VM_NAME, "--ignore-not-found", "--output", "name"];
    while ((await this.kubectl(...instance)).trim() !== "")
      await delay(LOOK_EVERY_MS * 10, undefined, { signal: this.#signal });
  }

  async #volumeName(): Promise<string> {
    const claim = await this.cluster.machineClaim(VM_NAME);
    return this.kubectl("get", "persistentvolumeclaim", `${claim}`, "-o", "jsonpath={.spec.volumeName}");
  }

  async #recordsOn(image: string): Promise<string[]> {
    const { offset, length } = rootPartition(TINY);
    const filesystem = join(this.directory, "root.ext4");
    await run("dd", [
      `if=${image}`,
      `of=${filesystem}`,
      "bs=1M",
      `skip=${offset / MIB}`,
      `count=${length / MIB}`,
      "status=none",
    ]);
    await run("e2fsck", ["-f", "-n", filesystem]);
    await run("debugfs", ["-R", `dump records ${join(this.directory, "records")}`, filesystem]);
    const records = await readFile(join(this.directory, "records"), "latin1");
    return records.match(/.{511}\n/g)?.map((record) => record.trim()) ?? [];
  }

  /** What everybody said, for when a test fails. */
  logs(): string {
    const lab = join(this.directory, "lab");
    const files = readdirSync(lab, { recursive: true, encoding: "utf8" }).filter((name) =>
      /^(pods|consoles).*\.log$/.test(name),
    );
    const all = [join(this.directory, "operator.log"), ...files.map((name) => join(lab, name))];
    return all.map((file) => `--- ${file}\n${readFileSync(file, "utf8").slice(-3000)}`).join("\n");
  }

  async close(): Promise<void> {
    this.#ending = true;
    this.#operator.kill("SIGKILL");
    await this.#lab.close();
    await rm(this.directory, { recursive: true, force: true, maxRetries: 5 });
  }

  async #apply(name: string, manifests: string): Promise<void> {
    const file = join(this.directory, name);
    await writeFile(file, manifests, { mode: 0o600 });
    await this.cluster.kubectl(["apply", "-f", file], this.#signal);
  }

  #startOperator(): ChildProcess {
    const log = openSync(join(this.directory, "operator.log"), "a");
    const args = [CLI, "operator", "--namespace", OPERATOR_NAMESPACE, "--kubeconfig", this.#operatorKubeconfig];
    const child = spawn("setpriv", ["--pdeathsig", "KILL", "--", process.execPath, ...args], {
      stdio: ["ignore", log, log],
      env: { ...process.env, NODE_OPTIONS: "" },
    });
    child.once("exit", () => {
      if (this.#ending) return;
      setTimeout(() => {
        if (!this.#ending) this.#operator = this.#startOperator();
      }, 500);
    });
    return child;
  }

  /** Process ids of this lab's pods that run a command, found by their arguments: they name the lab's directory. */
  #processes(command: string): number[] {
    return readdirSync("/proc")
      .filter((name) => /^\d+$/.test(name))
      .map(Number)
      .filter((pid) => {
        try {
          const args = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
          return args[1] === CLI && args[2] === command && args.some((arg) => arg.includes(this.directory));
        } catch {
          return false; // it has just ended
        }
      });
  }
}

/** The records that are not on the target as the guest that was told so wrote them. */
export function lostRecords(acknowledged: readonly Acknowledged[], target: readonly string[]): Acknowledged[] {
  return acknowledged.filter(({ record, boot }) => target[record - 1] !== `record ${record} boot ${boot}`);
}
