import { mkdir } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { errorMessage } from "../../base/errors.ts";
import type { VolumeClaim } from "../controllers/kinds.ts";
import { isControlledBy, type LabContext, ownKey, runLabController } from "../controllers/lab-controller.ts";
import { type InstanceFacts, instanceStatus } from "./instance-status.ts";
import { INSTANCES, type InstancePhase, type VirtualMachineInstance } from "./kinds.ts";
import {
  graceSeconds,
  instanceKeys,
  LAUNCHER_PODS,
  LAUNCHER_SELECTOR,
  type LauncherPod,
  launcherPod,
} from "./launcher-pod.ts";
import { deleteLauncher, writeLauncher } from "./launcher-writes.ts";
import type { Accelerator, MachineSpec } from "./machine.ts";
import { MachineRefusedError, machineSpecOf } from "./machine-spec.ts";
import { Migrations } from "./migrations.ts";
import { RunningMachine } from "./running-machine.ts";
import { INSTANCE_FINALIZER, isSame, runVirtualMachineController } from "./virtual-machine-controller.ts";
import { findVolume, type VolumeFound, VolumeNotReadyError } from "./volume-source.ts";
import { runWorkloadUpdater } from "./workload-updater.ts";

/** A machine that could not be started is tried again: its disks may not be served yet. */
const RETRY_MS = { first: 500, most: 10_000 };

interface HypervisorOptions {
  readonly nodeName: string;
  /** Serial consoles' logs lie below it. */
  readonly directory: string;
  /** Another loopback address that no pod has. */
  readonly nextAddress: () => Promise<string>;
  readonly accelerator: () => Promise<Accelerator>;
  /** The pause after a migration that failed, doubled after each further one. By default KubeVirt's. */
  readonly migrationBackoffMs?: number;
}

/** How often a guest is asked to shut down until it does. */
const ASK_AGAIN_MS = 3000;

/** A machine of an instance and where it is. */
export interface Held {
  readonly key: string;
  readonly podName: string;
  readonly podIP: string;
  readonly nodeName: string;
  readonly console: string;
  machine: RunningMachine | undefined;
  volumes: ReadonlyMap<string, VolumeFound>;
  problem: InstanceFacts["problem"];
  retryMs: number;
}

/** What KubeVirt does, with QEMU processes of this machine: VirtualMachines get instances, instances get launcher pods and run. */
export class Hypervisor {
  readonly #options: HypervisorOptions;
  readonly #context: LabContext;
  /** By the instance's uid. */
  readonly #held = new Map<string, Held>();
  /** Machines that wait for a guest. */
  readonly #incoming = new Set<Held>();
  #enqueue: (key: string) => void = () => undefined;

  constructor(options: HypervisorOptions, context: LabContext) {
    this.#options = options;
    this.#context = context;
  }

  /** Runs until the signal; then every QEMU is ended at once, as if the machine's power failed. */
  async run(signal: AbortSignal): Promise<void> {
    const watches = [
      { type: INSTANCES, keys: ownKey },
      { type: LAUNCHER_PODS, keys: instanceKeys },
    ];
    const reconcile = (namespace: string, name: string): Promise<number | undefined> =>
      this.#reconcile(namespace, name);
    const started = (enqueue: (key: string) => void): void => {
      this.#enqueue = enqueue;
    };
    await Promise.all([
      runVirtualMachineController(this.#context, signal),
      runWorkloadUpdater(this.#context, signal),
      new Migrations(this, this.#context, this.#options.migrationBackoffMs).run(signal),
      runLabController({ name: "hypervisor", watches, reconcile, started }, this.#context, signal),
    ]);
    await Promise.all([...this.#held.values(), ...this.#incoming].map(({ machine }) => machine?.kill()));
  }

  /** The machine of an instance, while it runs. */
  running(uid: string): (Held & { readonly machine: RunningMachine }) | undefined {
    const held = this.#held.get(uid);
    const machine = held?.machine;
    return held === undefined || machine === undefined || machine.exit !== undefined ? undefined : { ...held, machine };
  }

  /** Another address that no pod has. */
  nextAddress(): Promise<string> {
    return this.#options.nextAddress();
  }

  /**
   * Starts the machine of an instance once more, on the claims that it names now, waiting for its guest.
   *
   * @param sizes bytes of each of its disks as the guest sees them
   */
  async startIncoming(
    instance: VirtualMachineInstance,
    place: { readonly podName: string; readonly podIP: string; readonly nodeName: string },
    sizes: readonly number[],
  ): Promise<Held> {
    const { namespace = "", name } = instance.metadata;
    const volumes = await this.#findVolumes(instance);
    const console = join(this.#options.directory, `${place.podName}.console.log`);
    const spec = await this.#machineSpec(instance, place.podIP, volumes);
    const sized = { ...spec, disks: spec.disks.map((disk, index) => ({ ...disk, size: sizes[index] ?? 0 })) };
    const machine = await this.#run(sized, console, `${namespace}/${name}`, true);
    const held = { ...place, key: `${namespace}/${name}`, console, machine, volumes };
    const incoming = { ...held, problem: undefined, retryMs: RETRY_MS.first };
    this.#incoming.add(incoming);
    return incoming;
  }

  /** Ends a machine to which no guest came. */
  async dropIncoming(incoming: Held): Promise<void> {
    this.#incoming.delete(incoming);
    await incoming.machine?.kill();
  }

  /** The guest runs there now: that is the instance's machine from here on, and the one before is ended. */
  async handOver(uid: string, incoming: Held): Promise<void> {
    const before = this.#held.get(uid);
    this.#incoming.delete(incoming);
    // It is gone, and with it whatever ran for it.
    if (before === undefined) return incoming.machine?.kill();
    this.#held.set(uid, incoming);
    await before.machine?.kill();
    this.#enqueue(incoming.key);
  }

  /** The file with the serial console's output of a launcher pod that is here. */
  consoleFile(namespace: string, podName: string): string | undefined {
    for (const held of [...this.#held.values(), ...this.#incoming]) {
      if (held.podName === podName && held.key.startsWith(`${namespace}/`)) return held.console;
    }
    return undefined;
  }

  /** Process ids of the machines that run. */
  processIds(): number[] {
    const machines = [...this.#held.values()].map(({ machine }) => machine);
    return machines.flatMap((machine) =>
      machine?.pid === undefined || machine.exit !== undefined ? [] : [machine.pid],
    );
  }

  async #reconcile(namespace: string, name: string): Promise<number | undefined> {
    const instance = await this.#context.cluster.get(INSTANCES, namespace, name);
    await this.#endForeign(`${namespace}/${name}`, instance?.metadata.uid);
    if (instance === undefined) return undefined;
    const pods = await this.#context.cluster.list(LAUNCHER_PODS, namespace, LAUNCHER_SELECTOR);
    const own = pods.filter((pod) => isControlledBy(pod, instance));
    const uid = instance.metadata.uid ?? "";
    if (instance.metadata.deletionTimestamp !== undefined) return this.#remove(instance, own);
    const { phase } = instance.status ?? {};
    if (phase === "Succeeded" || phase === "Failed") return this.#finish(own, phase);
    const held = this.#held.get(uid);
    if (held === undefined) {
      // Begun by an earlier run of the lab, whose processes ended with it.
      if (phase === "Running" || own.length > 0) return this.#end(instance, own[0], "Failed", "the lab was stopped");
      await this.#prepare(instance);
      return 0;
    }
    await this.#removeEnded(own);
    const pod = own.find(({ metadata }) => metadata.name === held.podName);
    if (held.machine?.exit !== undefined) return this.#ended(instance, pod, held);
    if (pod === undefined) return this.#end(instance, undefined, "Failed", "the launcher pod is gone");
    if (pod.metadata.deletionTimestamp !== undefined) return this.#shutDown(instance, pod, held);
    if (held.machine === undefined) return this.#start(instance, pod, held);
    await this.#publish(instance, pod, held, "Running");
    return undefined;
  }

  /** Launchers whose guest has moved away, and that somebody deleted. */
  async #removeEnded(pods: readonly LauncherPod[]): Promise<void> {
    for (const pod of pods) {
      const hasEnded = pod.status?.phase === "Succeeded" || pod.status?.phase === "Failed";
      if (hasEnded && pod.metadata.deletionTimestamp !== undefined) await deleteLauncher(this.#context, pod);
    }
  }

  /** Machines of instances that are gone without having asked. */
  async #endForeign(key: string, uid: string | undefined): Promise<void> {
    for (const [other, held] of this.#held) {
      if (held.key !== key || other === uid) continue;
      this.#held.delete(other);
      await held.machine?.kill();
    }
  }

  async #prepare(instance: VirtualMachineInstance): Promise<void> {
    const { namespace = "", name, uid = "" } = instance.metadata;
    const podIP = await this.#options.nextAddress();
    const pod = launcherPod(instance, { nodeName: this.#options.nodeName });
    await mkdir(this.#options.directory, { recursive: true });
    const console = join(this.#options.directory, `${pod.metadata.name}.console.log`);
    await this.#context.cluster.create(LAUNCHER_PODS, pod as never);
    this.#held.set(uid, {
      ...{ key: `${namespace}/${name}`, podName: pod.metadata.name, podIP, nodeName: this.#options.nodeName, console },
      ...{ machine: undefined, volumes: new Map(), problem: undefined, retryMs: RETRY_MS.first },
    });
  }

  async #start(instance: VirtualMachineInstance, pod: LauncherPod, held: Held): Promise<number | undefined> {
    const { logger } = this.#context;
    try {
      held.volumes = await this.#findVolumes(instance);
      held.problem = undefined;
      await this.#publish(instance, pod, held, "Scheduled");
      const spec = await this.#machineSpec(instance, held.podIP, held.volumes);
      held.machine = await this.#run(spec, held.console, held.key);
      this.#enqueue(held.key);
      return undefined;
    } catch (error) {
      held.problem = problemOf(error);
      if (held.problem === undefined) throw error;
      logger.info({ machine: held.key, ...held.problem }, "not started");
      const current = await this.#context.cluster.get(INSTANCES, instance.metadata.namespace, instance.metadata.name);
      if (current !== undefined) await this.#publish(current, pod, held, "Scheduling");
      const delay = held.retryMs;
      held.retryMs = Math.min(RETRY_MS.most, delay * 2);
      return delay;
    }
  }

  async #machineSpec(
    instance: VirtualMachineInstance,
    podIP: string,
    sources: ReadonlyMap<string, VolumeFound>,
  ): Promise<MachineSpec> {
    const accelerator = await this.#options.accelerator();
    return machineSpecOf(instance, { accelerator, podIP, lowPorts: await canBindLowPorts(podIP), sources });
  }

  #run(spec: MachineSpec, console: string, key: string, incoming = false): Promise<RunningMachine> {
    const { clock, logger } = this.#context;
    const onChange = (): void => this.#enqueue(key);
    return RunningMachine.start({ spec, console, clock, logger, onChange, incoming });
  }

  async #findVolumes(instance: VirtualMachineInstance): Promise<Map<string, VolumeFound>> {
    const found = new Map<string, VolumeFound>();
    for (const volume of instance.spec.volumes ?? []) {
      const { namespace = "" } = instance.metadata;
      found.set(volume.name, await findVolume(this.#context.cluster, namespace, volume));
    }
    return found;
  }

  /** Milliseconds until somebody must look again; the machine's end is told by itself. */
  async #shutDown(
    instance: VirtualMachineInstance,
    pod: LauncherPod | undefined,
    held: Held,
  ): Promise<number | undefined> {
    const { machine } = held;
    if (machine === undefined) return this.#end(instance, pod, "Failed", "stopped before it was started");
    await machine.shutDown(this.#context.clock.monotonic() + graceSeconds(instance) * 1000);
    const left = machine.timeLeft() ?? 0;
    if (left > 0) return Math.min(left, ASK_AGAIN_MS);
    await machine.kill();
    return 0;
  }

  #ended(instance: VirtualMachineInstance, pod: LauncherPod | undefined, held: Held): Promise<number | undefined> {
    const { exit } = held.machine ?? {};
    if (exit?.code === 0) return this.#end(instance, pod, "Succeeded", undefined);
    const how = exit?.signal === null ? `exit code ${exit.code}` : exit?.signal;
    return this.#end(instance, pod, "Failed", `QEMU ended (${how}) ${exit?.complaint ?? ""}`.trim());
  }

  async #end(
    instance: VirtualMachineInstance,
    pod: LauncherPod | undefined,
    phase: "Succeeded" | "Failed",
    reason: string | undefined,
  ): Promise<number | undefined> {
    const held = this.#held.get(instance.metadata.uid ?? "");
    await held?.machine?.kill();
    await this.#publish(instance, pod, held, phase, reason);
    return 0;
  }

  /** A finished instance keeps its object, and its pod's, until somebody deletes it. */
  async #finish(pods: readonly LauncherPod[], phase: "Succeeded" | "Failed"): Promise<undefined> {
    for (const pod of pods) {
      if (pod.metadata.deletionTimestamp !== undefined) await deleteLauncher(this.#context, pod);
      else if (pod.status?.phase !== phase) await writeLauncher(this.#context, pod, phase, pod.status?.podIP ?? "");
    }
  }

  /** Ends the machine, then its pod, then lets the instance go: in this order, so that whoever waits for one can rely on it. */
  async #remove(instance: VirtualMachineInstance, pods: readonly LauncherPod[]): Promise<number | undefined> {
    const uid = instance.metadata.uid ?? "";
    const held = this.#held.get(uid);
    if (held?.machine !== undefined && held.machine.exit === undefined) return this.#shutDown(instance, pods[0], held);
    const phase = held?.machine?.exit?.code === 0 ? "Succeeded" : "Failed";
    for (const pod of pods) {
      await writeLauncher(this.#context, pod, phase, pod.status?.podIP ?? held?.podIP ?? "");
      await deleteLauncher(this.#context, pod);
    }
    this.#held.delete(uid);
    const finalizers = (instance.metadata.finalizers ?? []).filter((name) => name !== INSTANCE_FINALIZER);
    if (finalizers.length !== instance.metadata.finalizers?.length) {
      await this.#context.cluster.replace(INSTANCES, {
        ...instance,
        metadata: { ...instance.metadata, finalizers },
      } as never);
    }
    return undefined;
  }

  async #publish(
    instance: VirtualMachineInstance,
    pod: LauncherPod | undefined,
    held: Held | undefined,
    phase: InstancePhase,
    reason?: string,
  ): Promise<void> {
    const podIP = held?.podIP ?? pod?.status?.podIP ?? "";
    if (pod !== undefined) await writeLauncher(this.#context, pod, phase, podIP);
    const claims = [...(held?.volumes ?? [])].map(([name, { claim }]): [string, VolumeClaim] => [name, claim]);
    const machine = phase === "Running" ? held?.machine : undefined;
    const status = instanceStatus(
      instance,
      {
        ...{
          phase,
          podIP,
          nodeName: held?.nodeName ?? instance.status?.nodeName ?? this.#options.nodeName,
          podUid: pod?.metadata.uid ?? "",
        },
        ...(reason === undefined ? {} : { reason }),
        ...{ paused: machine?.paused, agentConnected: machine?.agentConnected ?? false, osInfo: machine?.osInfo },
        ...{ problem: held?.problem, claims: new Map(claims) },
      },
      this.#context.clock.now(),
    );
    if (isSame(instance.status, status) && Object.keys(instance.status ?? {}).length === Object.keys(status).length)
      return;
    await this.#context.cluster.replace(INSTANCES, { ...instance, status } as never);
  }
}

/** Why a machine cannot be started now; undefined for errors that are no matter of the machine's. */
function problemOf(error: unknown): InstanceFacts["problem"] {
  if (error instanceof VolumeNotReadyError) return { reason: error.reason, message: error.message };
  if (error instanceof MachineRefusedError) return { reason: "Refused", message: error.message };
  const { code } = error as { code?: unknown };
  return code === "QEMU_START_FAILED" ? { reason: "QEMUStartFailed", message: errorMessage(error) } : undefined;
}

/** Whether this process may listen on port 80 of a loopback address: not everybody may. */
function canBindLowPorts(address: string): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(80, address, () => server.close(() => resolve(true)));
  });
}
