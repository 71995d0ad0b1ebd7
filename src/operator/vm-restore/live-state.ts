import type { Action } from "../actions.ts";
import { isTrue } from "../conditions.ts";
import { INSTANCES, type Migration, type VirtualMachineInstance } from "../kinds.ts";
import type { Manifest } from "../runtime/objects.ts";
import { isOurs } from "./names.ts";
import { conditionsBefore, type Observed } from "./observed.ts";
import { type Place, placeOf, volumesOf } from "./served-claims.ts";

/** On the machine while KubeVirt moves its disks, so that a new operator knows what was done. RFC 3339 times. */
export const LIVE_ANNOTATIONS = {
  /** The uid of the instance that is to be migrated: from here on the machine is watched over. */
  instance: "vmrestore.io/live-migration-instance",
  /** Which claims its disks go to, whatever becomes of the spec: `disk=claim`, with commas. */
  targets: "vmrestore.io/live-migration-targets",
  /** The volumes were pointed at the targets. */
  began: "vmrestore.io/live-migration-began",
  /** The guest was seen running on the targets: from here on they hold what it writes. */
  arrived: "vmrestore.io/live-migration-arrived",
  /** Why the volumes were set back. */
  takenBack: "vmrestore.io/live-migration-taken-back",
  /** Why live migration is not tried again. */
  givenUp: "vmrestore.io/live-migration-given-up",
} as const;

/** Keeps the instance's object, and with it what became of its migration, until that was seen. */
export const INSTANCE_FINALIZER = "vmrestore.io/live-migration";
/** KubeVirt's, on the migrations that it makes for changed volumes. */
export const VOLUME_MIGRATION_LABEL = "kubevirt.io/volume-update-migration";

const CLOCKS_APART_MS = 5000;
/** KubeVirt passes on what libvirt and QEMU say. */
const REASON_LIMIT = 1024;

/** What there is of a live migration. */
export interface LiveState {
  readonly began: boolean;
  /** The instance that is migrated, as long as there is any trace of it. */
  readonly instance: VirtualMachineInstance | undefined;
  /** It does not run any more, or is about to end. */
  readonly isOver: boolean;
  /** Where the machine says that its disks are, and where its instance does: no sign of what is copied. */
  readonly machineOn: Place;
  readonly instanceOn: Place | undefined;
  /** KubeVirt is copying, or is going to. */
  readonly isMoving: boolean;
  /** The guest was seen on the targets now, and whether that is written down. */
  readonly hasArrived: boolean;
  readonly isArrivalRecorded: boolean;
  /** KubeVirt is done, and the guest is on the targets. */
  readonly hasSucceeded: boolean;
  /** Why KubeVirt does not do it without a restart. */
  readonly refusal: string | undefined;
  readonly failures: readonly string[];
  readonly open: Migration | undefined;
  readonly takenBack: string | undefined;
  readonly givenUp: string | undefined;
}

/** Whether the machine is watched over for a live migration, one that is called off included. */
export function liveBegun({ restore, machine }: Pick<Observed, "restore" | "machine">): boolean {
  return isOurs(restore, machine) && machine?.metadata.annotations?.[LIVE_ANNOTATIONS.instance] !== undefined;
}

/** Why live migration is not tried again; undefined where it may be. */
export function givenUp({ machine }: Pick<Observed, "machine">): string | undefined {
  return machine?.metadata.annotations?.[LIVE_ANNOTATIONS.givenUp];
}

export function liveState(observed: Observed): LiveState {
  const { machine, migrations } = observed;
  const annotations = machine?.metadata.annotations ?? {};
  const isIt = observed.instance?.metadata.uid === annotations[LIVE_ANNOTATIONS.instance];
  const instance = isIt ? observed.instance : undefined;
  const { phase, conditions, migratedVolumes, migrationState } = instance?.status ?? {};
  const isChanging = conditions?.some(({ type, status }) => type === "VolumesChange" && status === "True") ?? false;
  const isMoving = isChanging || (migratedVolumes?.length ?? 0) > 0;
  const instanceOn = instance === undefined ? undefined : placeOf(observed, instance.spec?.volumes);
  const isArrivalRecorded = annotations[LIVE_ANNOTATIONS.arrived] !== undefined;
  const isSeen = hasArrived(observed, instance);
  const restart = machine?.status?.conditions?.find(
    ({ type, status }) => type === "RestartRequired" && status === "True",
  );
  // Times of objects are whole seconds, by another clock.
  const since = Date.parse(annotations[LIVE_ANNOTATIONS.began] ?? "") - CLOCKS_APART_MS;
  const failed = migrations
    .filter(({ status }) => status?.phase === "Failed")
    .filter(({ metadata }) => Date.parse(metadata.creationTimestamp ?? "") >= since);
  return {
    began: annotations[LIVE_ANNOTATIONS.began] !== undefined,
    instance,
    isOver: instance?.metadata.deletionTimestamp !== undefined || phase === "Succeeded" || phase === "Failed",
    machineOn: placeOf(observed, volumesOf(machine)),
    instanceOn,
    isMoving,
    hasArrived: isArrivalRecorded || isSeen,
    isArrivalRecorded,
    hasSucceeded:
      (isArrivalRecorded || isSeen) &&
      !isMoving &&
      instanceOn === "Target" &&
      migrationState?.completed === true &&
      migrationState.failed !== true,
    // Volumes that it took over are no reason to restart.
    refusal: isMoving ? undefined : (restart?.message ?? restart?.reason)?.slice(0, REASON_LIMIT),
    failures: failed.map(({ status }) =>
      (status?.migrationState?.failureReason ?? "no reason was given").slice(0, REASON_LIMIT),
    ),
    open: migrations.find(({ status }) => status?.phase !== "Failed" && status?.phase !== "Succeeded"),
    takenBack: annotations[LIVE_ANNOTATIONS.takenBack],
    givenUp: annotations[LIVE_ANNOTATIONS.givenUp],
  };
}

/**
 * Whether the guest runs, or has run, in a pod that has the targets: then they hold what it wrote last, even where KubeVirt counts the
 * migration as failed. The pod is looked at because a machine may also be migrated for other reasons, with the disks it has.
 */
function hasArrived({ targetPods }: Observed, instance: VirtualMachineInstance | undefined): boolean {
  const state = instance?.status?.migrationState;
  if (state?.targetNodeDomainReadyTimestamp === undefined) return false;
  return targetPods.some(({ metadata }) => metadata.name === state.targetPod);
}

/**
 * Gives or takes the instance's finalizer.
 *
 * @param targets where its disks go, as the machine bears it; kept on the instance, too
 */
export function holdInstance(instance: VirtualMachineInstance, held: boolean, targets = ""): Action {
  const others = (instance.metadata.finalizers ?? []).filter((name) => name !== INSTANCE_FINALIZER);
  const finalizers = held ? [...others, INSTANCE_FINALIZER] : others;
  const marks = held ? { annotations: { ...instance.metadata.annotations, [LIVE_ANNOTATIONS.targets]: targets } } : {};
  const object = { ...instance, metadata: { ...instance.metadata, ...marks, finalizers } };
  return { do: "replace", type: INSTANCES, object: object as unknown as Manifest };
}

export function isHeld(instance: VirtualMachineInstance | undefined): boolean {
  return instance?.metadata.finalizers?.includes(INSTANCE_FINALIZER) ?? false;
}

/**
 * Lets an instance go that nobody needs to know anything of any more: its machine is not watched over, or is being deleted. One that
 * has arrived at its target first gets that written down, unless all of it is discarded.
 */
export function releaseInstance(observed: Observed): Action[] {
  const { restore, spec, machine, instance } = observed;
  if (instance === undefined || !isHeld(instance) || !isOurs(restore, instance)) return [];
  const isDiscarded = spec.deletionPolicy === "Discard" || isTrue(conditionsBefore(observed), "Discarded");
  const isGoing = machine?.metadata.deletionTimestamp !== undefined;
  if (liveBegun(observed) && !(isGoing && (isDiscarded || !liveState(observed).hasArrived))) return [];
  return [holdInstance(instance, false)];
}
