import { errorMessage } from "../../base/errors.ts";
import type { KubernetesObject, ResourceType } from "../../operator/runtime/objects.ts";
import { isControlledBy, type LabContext, ownKey, runLabController } from "../controllers/lab-controller.ts";
import type { Held, Hypervisor } from "./hypervisor.ts";
import {
  type Condition,
  INSTANCES,
  isOver,
  MIGRATIONS,
  type Migration,
  type MigrationPhase,
  type MigrationState,
  type VirtualMachineInstance,
} from "./kinds.ts";
import { migrationSettings } from "./kubevirt-resources.ts";
import { LAUNCHER_PODS, LAUNCHER_SELECTOR, type LauncherPod, launcherPod, MIGRATION_LABEL } from "./launcher-pod.ts";
import { bindLauncher, writeLauncher } from "./launcher-writes.ts";
import { backoffLeft } from "./migration-backoff.ts";
import { findVolume, VolumeNotReadyError } from "./volume-source.ts";
import { VOLUMES_CHANGE } from "./volume-update.ts";

/** KubeVirt's. */
const FINALIZER = "kubevirt.io/migrationJobFinalize";
const LOOK_AGAIN_MS = 500;
const ABORTED = "Live migration has been aborted";
const TOO_SMALL = "has to be smaller or equal to the actual size of the containing file";

interface Node extends KubernetesObject {
  spec?: { unschedulable?: boolean };
}

const NODES: ResourceType<Node> = { apiVersion: "v1", kind: "Node", plural: "nodes", namespaced: false };

/** A migration under way, as far as it is not written down. */
interface Going {
  readonly uid: string;
  readonly podIP: string;
  readonly nodeName: string;
  readonly abort: AbortController;
  incoming: Held | undefined;
  isMoving: boolean;
  isHandedOver: boolean;
  /** How the move ended; an empty reason where it went well. */
  outcome: { readonly reason: string } | undefined;
}

/** What KubeVirt's migration controller and both sides' virt-handlers do for a VirtualMachineInstanceMigration, phase by phase. */
export class Migrations {
  readonly #hypervisor: Hypervisor;
  readonly #context: LabContext;
  readonly #backoffMs: number;
  readonly #going = new Map<string, Going>();
  #enqueue: (key: string) => void = () => undefined;

  constructor(hypervisor: Hypervisor, context: LabContext, backoffMs = 20_000) {
    this.#hypervisor = hypervisor;
    this.#context = context;
    this.#backoffMs = backoffMs;
  }

  async run(signal: AbortSignal): Promise<void> {
    const byInstance = new Map<string, Set<string>>();
    const own = (object: object): string[] => {
      const { metadata, spec } = object as Migration;
      const key = `${metadata.namespace}/${metadata.name}`;
      const instance = `${metadata.namespace}/${spec.vmiName}`;
      byInstance.set(instance, (byInstance.get(instance) ?? new Set()).add(key));
      return [key];
    };
    const ofPod = ({ metadata }: KubernetesObject): string[] => {
      const name = metadata.annotations?.["kubevirt.io/migrationJobName"];
      return name === undefined ? [] : [`${metadata.namespace}/${name}`];
    };
    const watches = [
      { type: MIGRATIONS, keys: own },
      {
        type: INSTANCES,
        keys: (object: KubernetesObject) => [...(byInstance.get(ownKey(object as never)[0] ?? "") ?? [])],
      },
      { type: LAUNCHER_PODS, keys: ofPod },
    ];
    const reconcile = (namespace: string, name: string): Promise<number | undefined> =>
      this.#reconcile(namespace, name);
    const started = (enqueue: (key: string) => void): void => {
      this.#enqueue = enqueue;
    };
    await runLabController({ name: "migration", watches, reconcile, started }, this.#context, signal);
    for (const { abort } of this.#going.values()) abort.abort(new Error("the lab ends"));
  }

  async #reconcile(namespace: string, name: string): Promise<number | undefined> {
    const { cluster } = this.#context;
    const key = `${namespace}/${name}`;
    const migration = await cluster.get(MIGRATIONS, namespace, name);
    if (migration === undefined) return this.#forget(key);
    const instance = await cluster.get(INSTANCES, namespace, migration.spec.vmiName);
    if (isOver(migration) || instance === undefined) {
      await this.#forget(key);
      if (instance === undefined && migration.metadata.deletionTimestamp === undefined)
        await cluster.delete(MIGRATIONS, migration);
      return this.#withFinalizer(migration, false);
    }
    if (
      migration.metadata.deletionTimestamp === undefined &&
      (await this.#withFinalizer(migration, true)) !== undefined
    )
      return 0;
    const pods = await cluster.list(LAUNCHER_PODS, namespace, LAUNCHER_SELECTOR);
    const launchers = pods.filter((pod) => isControlledBy(pod, instance));
    const pod = launchers.find(({ metadata }) => metadata.labels?.[MIGRATION_LABEL] === migration.metadata.uid);
    const trouble = this.#troubleOf(migration, instance, pod);
    if (trouble !== undefined) return this.#fail(migration, instance, pod, trouble);
    return this.#advance(migration, instance, pod, launchers);
  }

  /** What ends it early. Nothing does once the guest is handed over. */
  #troubleOf(migration: Migration, instance: VirtualMachineInstance, pod: LauncherPod | undefined): string | undefined {
    const going = this.#goingOf(migration);
    if (going?.isHandedOver === true && going.outcome?.reason !== "") return going.outcome?.reason;
    if (going?.isHandedOver === true) return undefined;
    const { phase } = instance.status ?? {};
    if (phase === "Succeeded" || phase === "Failed") return "vmi shutdown during migration";
    if (migration.metadata.deletionTimestamp !== undefined) return ABORTED;
    const hasPod = !["", "Pending"].includes(migration.status?.phase ?? "");
    const isDown =
      pod?.metadata.deletionTimestamp !== undefined || ["Succeeded", "Failed"].includes(pod?.status?.phase ?? "");
    if (hasPod && (pod === undefined || isDown)) return "Target pod is down";
    if (hasPod && migration.status?.phase !== "Scheduling" && going === undefined) return "the lab was stopped";
    return going?.outcome?.reason;
  }

  async #advance(
    migration: Migration,
    instance: VirtualMachineInstance,
    pod: LauncherPod | undefined,
    launchers: readonly LauncherPod[],
  ): Promise<number | undefined> {
    const { phase } = migration.status ?? {};
    if (phase === undefined) return this.#begin(migration);
    if (phase === "Pending") return this.#createPod(migration, instance, pod);
    if (pod === undefined) return LOOK_AGAIN_MS;
    if (phase === "Scheduling") return this.#schedule(migration, instance, pod);
    const going = this.#goingOf(migration);
    if (going === undefined) return LOOK_AGAIN_MS;
    if (phase === "Scheduled") return this.#announce(migration, instance, pod, going);
    if (phase === "PreparingTarget") return this.#startTarget(migration, instance, pod, going);
    if (phase === "TargetReady") return this.#startMove(migration, instance, going);
    return going.outcome === undefined ? undefined : this.#succeed(migration, instance, going, launchers);
  }

  async #begin(migration: Migration): Promise<number | undefined> {
    const { metadata, spec } = migration;
    const all = await this.#context.cluster.list(MIGRATIONS, metadata.namespace);
    const other = all.some(
      (one) =>
        one.spec.vmiName === spec.vmiName &&
        one.metadata.uid !== metadata.uid &&
        one.status?.phase !== undefined &&
        !isOver(one),
    );
    return this.#setPhase(migration, other ? "Failed" : "Pending");
  }

  async #createPod(
    migration: Migration,
    instance: VirtualMachineInstance,
    pod: LauncherPod | undefined,
  ): Promise<number | undefined> {
    if (pod !== undefined) return this.#setPhase(migration, "Scheduling");
    const all = await this.#context.cluster.list(MIGRATIONS, migration.metadata.namespace);
    const left = backoffLeft(migration, all, { firstMs: this.#backoffMs, now: this.#context.clock.now() });
    if (left > 0) return left;
    await this.#context.cluster.create(LAUNCHER_PODS, launcherPod(instance, { migration }) as never);
    return undefined;
  }

  /** Puts the pod on a node that is not the source's, and waits for its claims. */
  async #schedule(
    migration: Migration,
    instance: VirtualMachineInstance,
    pod: LauncherPod,
  ): Promise<number | undefined> {
    const { cluster } = this.#context;
    if (pod.spec?.nodeName === undefined) {
      const nodes = await cluster.list(NODES, undefined, "kubevirt.io/schedulable=true");
      const node = nodes.find(
        ({ metadata, spec }) => metadata.name !== instance.status?.nodeName && spec?.unschedulable !== true,
      );
      if (node === undefined) return LOOK_AGAIN_MS;
      await bindLauncher(this.#context, pod, node.metadata.name);
      return undefined;
    }
    try {
      for (const volume of instance.spec.volumes ?? [])
        await findVolume(cluster, instance.metadata.namespace ?? "", volume);
    } catch (error) {
      if (error instanceof VolumeNotReadyError) return LOOK_AGAIN_MS;
      throw error;
    }
    const key = keyOf(migration);
    const going = this.#goingOf(migration) ?? {
      ...{
        uid: migration.metadata.uid ?? "",
        podIP: await this.#hypervisor.nextAddress(),
        nodeName: pod.spec.nodeName,
      },
      ...{
        abort: new AbortController(),
        incoming: undefined,
        isMoving: false,
        isHandedOver: false,
        outcome: undefined,
      },
    };
    this.#going.set(key, going);
    await writeLauncher(this.#context, pod, "Running", going.podIP);
    return this.#setPhase(migration, "Scheduled");
  }

  async #announce(
    migration: Migration,
    instance: VirtualMachineInstance,
    pod: LauncherPod,
    { uid, nodeName }: Going,
  ): Promise<number | undefined> {
    if (instance.status?.migrationState?.migrationUid !== uid) {
      const sourcePod = this.#hypervisor.running(instance.metadata.uid ?? "")?.podName ?? "";
      const sourceNode = instance.status?.nodeName ?? "";
      const state: MigrationState = {
        migrationUid: uid,
        sourceNode,
        sourcePod,
        targetNode: nodeName,
        targetPod: pod.metadata.name,
      };
      await this.#writeState(instance, state);
    }
    return this.#setPhase(migration, "PreparingTarget");
  }

  async #startTarget(
    migration: Migration,
    instance: VirtualMachineInstance,
    pod: LauncherPod,
    going: Going,
  ): Promise<number | undefined> {
    const source = this.#hypervisor.running(instance.metadata.uid ?? "");
    if (source === undefined) return LOOK_AGAIN_MS;
    try {
      const place = { podName: pod.metadata.name, podIP: going.podIP, nodeName: going.nodeName };
      going.incoming ??= await this.#hypervisor.startIncoming(instance, place, await source.machine.diskSizes());
    } catch (error) {
      return this.#fail(migration, instance, pod, reasonOf(error));
    }
    await this.#writeState(instance, { ...instance.status?.migrationState, targetNodeAddress: "127.0.0.1" });
    return this.#setPhase(migration, "TargetReady");
  }

  async #startMove(migration: Migration, instance: VirtualMachineInstance, going: Going): Promise<number | undefined> {
    const { cluster, logger } = this.#context;
    const uid = instance.metadata.uid ?? "";
    const source = this.#hypervisor.running(uid);
    const { incoming } = going;
    if (source === undefined || incoming?.machine === undefined) return LOOK_AGAIN_MS;
    if (!going.isMoving) {
      going.isMoving = true;
      const moved = new Set(instance.status?.migratedVolumes?.map(({ volumeName }) => volumeName));
      const disks = instance.spec.domain?.devices?.disks ?? [];
      const indexes = disks.flatMap(({ name }, index) => (moved.has(name) ? [index] : []));
      const { bandwidth } = await migrationSettings(cluster);
      const onHandOver = (): void => {
        going.isHandedOver = true;
      };
      source.machine
        .moveTo(incoming.machine, indexes, { signal: going.abort.signal, bandwidth, onHandOver })
        .then(async (pauseMs) => {
          logger.info({ machine: source.key, node: going.nodeName, pauseMs }, "moved");
          going.outcome = { reason: "" };
          await this.#hypervisor.handOver(uid, incoming);
        })
        .catch((error: unknown) => {
          going.outcome = { reason: reasonOf(error) };
        })
        .finally(() => this.#enqueue(keyOf(migration)));
    }
    const startTimestamp = this.#now();
    await this.#writeState(instance, { ...instance.status?.migrationState, startTimestamp, mode: "PreCopy" });
    return this.#setPhase(migration, "Running");
  }

  /** In KubeVirt's order: the guest is seen on its new node → the volumes are said to be there → the migration has succeeded. */
  async #succeed(
    migration: Migration,
    instance: VirtualMachineInstance,
    { nodeName }: Going,
    launchers: readonly LauncherPod[],
  ): Promise<number | undefined> {
    const state = instance.status?.migrationState ?? {};
    if (state.targetNodeDomainReadyTimestamp === undefined) {
      const at = this.#now();
      const seen = { targetNodeDomainDetected: true, targetNodeDomainReadyTimestamp: at, endTimestamp: at };
      await this.#writeState(instance, { ...state, ...seen });
      return 0;
    }
    if (state.completed !== true) {
      const conditions = (instance.status?.conditions ?? []).filter(({ type }) => type !== VOLUMES_CHANGE);
      const status = { ...instance.status, nodeName, conditions, migratedVolumes: undefined };
      await this.#context.cluster.replace(INSTANCES, {
        ...instance,
        status: { ...status, migrationState: { ...state, completed: true } },
      } as never);
      return 0;
    }
    const source = launchers.find(({ metadata }) => metadata.name === state.sourcePod);
    if (source !== undefined) await writeLauncher(this.#context, source, "Succeeded", source.status?.podIP ?? "");
    return this.#setPhase(migration, "Succeeded", { migrationState: state });
  }

  async #fail(
    migration: Migration,
    instance: VirtualMachineInstance,
    pod: LauncherPod | undefined,
    reason: string,
  ): Promise<number | undefined> {
    const going = this.#goingOf(migration);
    going?.abort.abort(new Error(reason));
    // What was begun is taken back first: the guest runs on where it was.
    if (going?.isMoving === true && going.outcome === undefined) return undefined;
    if (going?.incoming !== undefined) await this.#hypervisor.dropIncoming(going.incoming);
    const state = instance.status?.migrationState;
    if (state?.migrationUid === migration.metadata.uid && state?.completed !== true) {
      const at = this.#now();
      const aborted = reason === ABORTED ? { abortRequested: true, abortStatus: "Succeeded" } : {};
      const failed = { failed: true, completed: true, failureReason: reason, endTimestamp: at, ...aborted };
      await this.#writeState(instance, { ...state, startTimestamp: state?.startTimestamp ?? at, ...failed });
      return 0;
    }
    if (pod !== undefined) await writeLauncher(this.#context, pod, "Failed", pod.status?.podIP ?? going?.podIP ?? "");
    const isAborted = migration.metadata.deletionTimestamp !== undefined;
    const aborting: Condition = { type: "migrationAbortRequested", status: "True" };
    const ours = state?.migrationUid === migration.metadata.uid ? { migrationState: state } : {};
    return this.#setPhase(migration, "Failed", { ...ours, ...(isAborted ? { conditions: [aborting] } : {}) });
  }

  async #forget(key: string): Promise<undefined> {
    const going = this.#going.get(key);
    this.#going.delete(key);
    if (going === undefined) return;
    going.abort.abort(new Error("the migration is over"));
    // One that went well is the instance's machine by now.
    if (going.incoming !== undefined && !going.isHandedOver) await this.#hypervisor.dropIncoming(going.incoming);
  }

  #goingOf(migration: Migration): Going | undefined {
    const going = this.#going.get(keyOf(migration));
    return going?.uid === migration.metadata.uid ? going : undefined;
  }

  async #withFinalizer(migration: Migration, wanted: boolean): Promise<number | undefined> {
    const before = migration.metadata.finalizers ?? [];
    if (before.includes(FINALIZER) === wanted) return undefined;
    const finalizers = wanted ? [...before, FINALIZER] : before.filter((name) => name !== FINALIZER);
    const metadata = { ...migration.metadata, finalizers };
    await this.#context.cluster.replace(MIGRATIONS, { ...migration, metadata } as never);
    return 0;
  }

  async #writeState(instance: VirtualMachineInstance, migrationState: MigrationState): Promise<void> {
    await this.#context.cluster.replace(INSTANCES, {
      ...instance,
      status: { ...instance.status, migrationState },
    } as never);
  }

  async #setPhase(migration: Migration, phase: MigrationPhase, more: object = {}): Promise<number | undefined> {
    const { apiVersion, kind, metadata, status } = migration;
    const times = [...(status?.phaseTransitionTimestamps ?? []), { phase, phaseTransitionTimestamp: this.#now() }];
    const { name, namespace } = metadata;
    await this.#context.cluster.applyStatus(MIGRATIONS, {
      ...{ apiVersion, kind, metadata: { name, namespace: namespace ?? "" } },
      status: { ...status, ...more, phase, phaseTransitionTimestamps: times },
    });
    return undefined;
  }

  #now(): string {
    return new Date(this.#context.clock.now()).toISOString().replace(/\.\d+/, "");
  }
}

function keyOf({ metadata }: Migration): string {
  return `${metadata.namespace}/${metadata.name}`;
}

function reasonOf(error: unknown): string {
  const message = errorMessage(error);
  const isTooSmall = message.replaceAll(/\s+/g, " ").includes(TOO_SMALL) || /size .*(exceeds|larger)/i.test(message);
  if (!isTooSmall) return message;
  return `Volume migration cannot be performed because the destination volume is smaller than the source volume: ${message}`;
}
