import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { closeSync, openSync } from "node:fs";
import { mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { systemClock } from "../../base/clock.ts";
import { errorCode } from "../../base/errors.ts";
import { formatBytes } from "../../base/format-bytes.ts";
import { bootOnce } from "../guest/boot-once.ts";
import { buildGuestImage } from "../guest/debian-guest.ts";
import { buildTinyGuest } from "../guest/tiny-guest.ts";
import { chooseAccelerator } from "../hypervisor/accelerator.ts";
import { startLab } from "../lab.ts";
import { backUp, timeFullRestore } from "./backup.ts";
import { Cluster } from "./cluster.ts";
import { followRestore } from "./follow.ts";
import { keepRunning } from "./keep-running.ts";
import { OPERATOR_NAMESPACE, repositoryManifests } from "./manifests.ts";
import type { Output } from "./output.ts";
import { waitForPage } from "./page.ts";
import { formatDuration, renderTimeline } from "./timeline.ts";
import { ordersDatabase, VM_NAME } from "./virtual-machine.ts";

const TIMELINE_WIDTH = 40;

export interface QuickstartOptions {
  /** Everything that is built or run lies below it; a second run goes on from what is there. */
  readonly directory: string;
  /** The built command, which pods run. */
  readonly cliEntry: string;
  /** The folder of the CustomResourceDefinitions. */
  readonly crds: string;
  /** The folder of the YAML files that a user would apply. */
  readonly examples: string;
  readonly output: Output;
  /** Keep the lab running at the end, until the signal. */
  readonly stay: boolean;
  readonly signal: AbortSignal;
}

/** Loses a machine and brings it back: see README.md, "Two commands". */
export async function runQuickstart(options: QuickstartOptions): Promise<void> {
  const { directory, output, signal } = options;
  await mkdir(directory, { recursive: true });

  output.step("A real Debian guest, built once and booted once");
  const disk = await guestDisk(options);
  output.line(`${formatBytes((await stat(disk)).size)}: ${disk}`);

  output.step("Its backup, by the real restic");
  const repository = join(directory, "repository");
  const passwordFile = join(directory, "repository-password");
  const password = await repositoryPassword(passwordFile);
  const backup = { repository, passwordFile, host: VM_NAME, scratch: join(directory, "scratch"), signal };
  await backUp({ ...backup, disk, manifest: ordersDatabase() });
  output.line("one snapshot: the disk, and the VirtualMachine as it stood in the cluster");

  output.step("An embedded cluster, and the operator in it");
  // Each run has a cluster of its own: what an earlier one left half-way is of no use to it.
  const lab = await startLab({
    directory: join(directory, `lab-${Date.now()}`),
    cliEntry: options.cliEntry,
    crds: options.crds,
  });
  const operator = keepRunning(() => startOperator(options, lab.kubeconfigPath), systemClock);
  try {
    const cluster = new Cluster(lab.kubeconfigPath);
    const manifests = join(directory, "repository.yaml");
    await writeFile(manifests, repositoryManifests({ directory: repository, password }), { mode: 0o600 });
    await cluster.kubectl(["apply", "-f", manifests], signal);
    output.line(`KUBECONFIG=${lab.kubeconfigPath}`);

    const usable = await restore(options, cluster);

    output.step("Beside it: what restic alone takes to bring the same snapshot back");
    const full = await timeFullRestore(backup);
    output.line(`restic restore: ${formatDuration(full)}, and the machine still has to boot after that`);
    output.line(`this restore:   ${formatDuration(usable)} until the machine's page answered, boot included`);

    output.step("Look around");
    output.line(`export KUBECONFIG=${lab.kubeconfigPath}`);
    output.line("kubectl get vmrestores,virtualmachines,pods,persistentvolumeclaims");
    output.line(`kubectl describe vmrestore ${VM_NAME}`);
    if (options.stay) {
      output.line("The cluster stays until you press Ctrl-C.");
      await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
    }
  } finally {
    await operator.stop();
    await lab.close();
  }
}

/** The guest's disk: real Debian, booted once. Kept between runs. */
async function guestDisk({ directory, output, signal }: QuickstartOptions): Promise<string> {
  const guests = join(directory, "guests");
  return buildGuestImage({
    directory: guests,
    signal,
    progress: (text) => output.line(text),
    bootOnce: async (disk) => {
      const accelerator = await chooseAccelerator(() => buildTinyGuest({ directory: guests, signal }));
      const report = await bootOnce({ disk, accelerator, console: join(directory, "first-boot.log"), signal });
      output.line(`its page answered after ${formatDuration(report.millisecondsToPage)} (${accelerator})`);
    },
  });
}

/** Applies the VMRestore and shows it through to its end; gives back the milliseconds until the machine's page answered. */
async function restore({ examples, output, signal }: QuickstartOptions, cluster: Cluster): Promise<number> {
  output.step("The machine is gone: kubectl apply -f examples/vmrestore.yaml");
  await cluster.kubectl(["apply", "-f", join(examples, "backuprepository.yaml")], signal);
  await cluster.kubectl(["wait", "--for=condition=Ready", "--timeout=60s", "backuprepository/nightly"], signal);
  const applied = performance.now();
  const appliedAt = Date.now();
  await cluster.kubectl(["apply", "-f", join(examples, "vmrestore.yaml")], signal);

  const answered = waitForPage(() => cluster.machineAddress(VM_NAME), signal).then(async (page) => {
    const elapsed = performance.now() - applied;
    const [claim, status] = await Promise.all([cluster.machineClaim(VM_NAME), cluster.restoreStatus(VM_NAME)]);
    const relocated = (status?.disks ?? []).reduce((sum, disk) => sum + (disk.bytesRelocated ?? 0), 0);
    output.line(`the machine's page answered after ${formatDuration(elapsed)}: ${page}`);
    output.line(
      `its disk is the claim ${claim}, served from the backup; ${formatBytes(relocated)} are at the target so far`,
    );
    return elapsed;
  });
  // Where following fails, its error is the one that counts.
  answered.catch(() => undefined);
  const status = await followRestore(cluster, VM_NAME, ({ phase }) => phase === "Completed", output, signal);
  const usable = await answered;

  output.step("The machine runs from its target volume; the media agent is gone");
  const page = await waitForPage(() => cluster.machineAddress(VM_NAME), signal);
  output.line(`its page: ${page}`);
  output.line(`its disk is the claim ${await cluster.machineClaim(VM_NAME)}`);
  const left = await cluster.kubectl(["get", "pods", "--namespace", OPERATOR_NAMESPACE, "--output", "name"], signal);
  output.line(`pods of the restore that are left: ${left.trim() === "" ? "none" : left.trim().replaceAll("\n", ", ")}`);

  output.step("Timeline");
  for (const line of renderTimeline(status.timeline ?? [], Date.now(), TIMELINE_WIDTH)) output.line(line);
  output.line(
    `until the page answered: ${formatDuration(usable)}; until all was over: ${formatDuration(Date.now() - appliedAt)}`,
  );
  const fetched = status.mediaAgent?.bytesFetched;
  if (fetched !== undefined) output.line(`fetched from the repository: ${formatBytes(fetched)}`);
  if (status.bootSet !== undefined) {
    const { source, bytes, hitRatio } = status.bootSet;
    output.line(
      `boot set (from the ${source.toLowerCase()}): ${formatBytes(bytes)}, hit ratio ${hitRatio ?? "not measured"}`,
    );
  }
  const { timeToGuestReady, cutoverDowntime } = status;
  const cutover =
    cutoverDowntime === undefined
      ? "moved to its target without a restart"
      : `down for the cutover for ${cutoverDowntime}`;
  if (timeToGuestReady !== undefined) output.line(`guest ready after ${timeToGuestReady}, ${cutover}`);
  return usable;
}

function startOperator({ cliEntry, directory }: QuickstartOptions, kubeconfig: string): ChildProcess {
  const log = openSync(join(directory, "operator.log"), "a");
  // The pipe on standard input ends with this process, and the operator with the pipe.
  const child = spawn(
    process.execPath,
    [cliEntry, "operator", "--namespace", OPERATOR_NAMESPACE, "--kubeconfig", kubeconfig],
    {
      stdio: ["pipe", log, log],
      env: { ...process.env, VMRESTORE_END_WITH_STDIN: "1" },
    },
  );
  closeSync(log);
  return child;
}

async function repositoryPassword(file: string): Promise<string> {
  try {
    return (await readFile(file, "utf8")).trim();
  } catch (error) {
    if (errorCode(error) !== "ENOENT") throw error;
  }
  const password = randomBytes(18).toString("base64url");
  await writeFile(file, `${password}\n`, { mode: 0o600 });
  return password;
}
