import type { VolumeClaim } from "../controllers/kinds.ts";
import {
  type ClaimInfo,
  type Condition,
  claimNameOf,
  hasCondition,
  type MigratedVolume,
  type VirtualMachine,
  type VirtualMachineInstance,
  type Volume,
} from "./kinds.ts";

export const VOLUMES_CHANGE = "VolumesChange";
export const MANUAL_RECOVERY = "ManualRecoveryRequired";
const CANCELLED = "VolumesChangeCancellation";

/** What a change of a running machine's claims comes to. Nothing in it: nothing is to be done. */
export interface VolumeUpdate {
  /** The instance as it is to be written. */
  readonly instance?: VirtualMachineInstance;
  /** What the machine's status is to say is migrated. */
  readonly migrated?: MigratedVolume[];
  /** Why the machine has to be restarted for that instead. */
  readonly restart?: string;
  /** Why it is not done. */
  readonly error?: string;
}

/**
 * KubeVirt's volume updates (pkg/virt-controller/watch/volume-migration): with `updateVolumesStrategy: Migration` the instance takes over
 * the new claims and says which volumes are to be copied; the claims of before call that off.
 *
 * @param claims those of the namespace, by name
 */
export function updateVolumes(
  machine: VirtualMachine,
  instance: VirtualMachineInstance | undefined,
  claims: ReadonlyMap<string, VolumeClaim>,
): VolumeUpdate {
  if (instance === undefined || instance.metadata.deletionTimestamp !== undefined) return {};
  const changed = changedClaims(machine, instance);
  if (changed.size === 0) return {};
  const migrated = instance.status?.migratedVolumes ?? [];
  if (hasCondition(instance, VOLUMES_CHANGE) && migrated.some(({ volumeName }) => changed.has(volumeName)))
    return cancel(machine, instance, migrated, changed);
  if (machine.spec.updateVolumesStrategy !== "Migration") return {};
  const invalid = invalidVolumes(instance, changed);
  if (invalid !== undefined) return { restart: invalid };
  const missing = [...changed.values()].find((name) => !claims.has(name));
  if (missing !== undefined) {
    const message = `One of the destination volumes doesn't exist: PVC ${missing} does not exist`;
    return { instance: withCondition(instance, { type: VOLUMES_CHANGE, status: "False", message }) };
  }
  const volumes = [...changed].map(([volumeName, target]): MigratedVolume => {
    const source = claimOf(instance, volumeName) ?? "";
    return {
      volumeName,
      sourcePVCInfo: infoOf(source, claims.get(source)),
      destinationPVCInfo: infoOf(target, claims.get(target)),
    };
  });
  const refusal = notMigratable(instance, changed);
  if (refusal !== undefined) return { restart: refusal };
  const conditions = (instance.status?.conditions ?? []).filter(({ type }) => type !== VOLUMES_CHANGE);
  const next = withVolumes(machine, { ...instance, status: { ...instance.status, conditions } }, changed);
  return { instance: { ...next, status: { ...next.status, migratedVolumes: volumes } }, migrated: volumes };
}

function cancel(
  machine: VirtualMachine,
  instance: VirtualMachineInstance,
  migrated: readonly MigratedVolume[],
  changed: ReadonlyMap<string, string>,
): VolumeUpdate {
  const isReverted =
    migrated.length === changed.size &&
    migrated.every(({ volumeName, sourcePVCInfo }) => changed.get(volumeName) === sourcePVCInfo.claimName);
  if (!isReverted) return { error: "The volume can only be reverted to the previous version during the update" };
  const without = { ...instance, status: { ...instance.status, migratedVolumes: undefined } };
  const condition: Condition = { type: VOLUMES_CHANGE, status: "False", reason: CANCELLED };
  return { instance: withVolumes(machine, withCondition(without, condition), changed) };
}

/** Volumes that machine and instance have both, with another claim on the machine: that one, by volume. */
function changedClaims(machine: VirtualMachine, instance: VirtualMachineInstance): Map<string, string> {
  const changed = new Map<string, string>();
  for (const volume of machine.spec.template.spec.volumes ?? []) {
    const wanted = claimNameOf(volume);
    const present = claimOf(instance, volume.name);
    if (wanted !== undefined && present !== undefined && wanted !== present) changed.set(volume.name, wanted);
  }
  return changed;
}

function claimOf({ spec }: VirtualMachineInstance, volume: string): string | undefined {
  const found = spec.volumes?.find(({ name }) => name === volume);
  return found === undefined ? undefined : claimNameOf(found);
}

function invalidVolumes({ spec }: VirtualMachineInstance, changed: ReadonlyMap<string, string>): string | undefined {
  const disks = (spec.domain?.devices?.disks ?? []).filter(({ name }) => changed.has(name));
  const names = (list: readonly { name: string }[]) => `[${list.map(({ name }) => name).join(" ")}]`;
  const shareable = disks.filter((disk) => disk.shareable === true);
  const luns = disks.filter(({ lun }) => lun !== undefined);
  if (shareable.length + luns.length === 0) return undefined;
  const parts = [
    shareable.length === 0 ? "" : ` shareable: ${names(shareable)}`,
    luns.length === 0 ? "" : ` luns: ${names(luns)}`,
  ];
  return `invalid volumes to update with migration:${parts.join("")}`;
}

function notMigratable({ status }: VirtualMachineInstance, changed: ReadonlyMap<string, string>): string | undefined {
  const storage = status?.conditions?.find(({ type }) => type === "StorageLiveMigratable");
  if (storage?.status === "False") return `cannot migrate the volumes as the VMI isn't migratable: ${storage.message}`;
  const volumes = (status?.volumeStatus ?? []) as { name: string; persistentVolumeClaimInfo?: ClaimInfo }[];
  const left = volumes.find(
    ({ name, persistentVolumeClaimInfo: claim }) =>
      claim?.accessModes?.includes("ReadWriteOnce") === true && !changed.has(name),
  );
  if (left === undefined) return undefined;
  return `cannot migrate the VM. The volume ${left.name} is RWO and not included in the migration volumes`;
}

function infoOf(claimName: string, claim: VolumeClaim | undefined): ClaimInfo {
  const { accessModes, volumeMode, resources } = claim?.spec ?? {};
  return {
    ...{ claimName, volumeMode: volumeMode ?? "Filesystem" },
    ...(accessModes === undefined ? {} : { accessModes }),
    ...(resources?.requests === undefined ? {} : { requests: resources.requests }),
    ...(claim?.status?.capacity === undefined ? {} : { capacity: claim.status.capacity }),
  };
}

function withVolumes(
  machine: VirtualMachine,
  instance: VirtualMachineInstance,
  changed: ReadonlyMap<string, string>,
): VirtualMachineInstance {
  const wanted = new Map(machine.spec.template.spec.volumes?.map((volume): [string, Volume] => [volume.name, volume]));
  const volumes = instance.spec.volumes?.map((volume) =>
    changed.has(volume.name) ? (wanted.get(volume.name) ?? volume) : volume,
  );
  return { ...instance, spec: { ...instance.spec, ...(volumes === undefined ? {} : { volumes }) } };
}

function withCondition(instance: VirtualMachineInstance, condition: Condition): VirtualMachineInstance {
  const { conditions = [] } = instance.status ?? {};
  const same = conditions.some(
    ({ type, status, reason, message }) =>
      type === condition.type &&
      status === condition.status &&
      reason === condition.reason &&
      message === condition.message,
  );
  if (same) return instance;
  const others = conditions.filter(({ type }) => type !== condition.type);
  return { ...instance, status: { ...instance.status, conditions: [...others, condition] } };
}

/** What the machine's status keeps about its volumes: until they are set back, or the strategy is taken away. */
export interface VolumeUpdateStatus {
  readonly migrated: MigratedVolume[] | undefined;
  /** The instance ended while its volumes were copied: whoever starts the machine must say on which it is. */
  readonly needsRecovery: boolean;
}

/** KubeVirt's `syncVolumeMigration`. */
export function volumeUpdateStatus(
  machine: VirtualMachine,
  instance: VirtualMachineInstance | undefined,
  begun: MigratedVolume[] | undefined,
): VolumeUpdateStatus {
  const none = { migrated: undefined, needsRecovery: false };
  const migrated = begun ?? machine.status?.volumeUpdateState?.volumeMigrationState?.migratedVolumes;
  if (migrated === undefined || machine.spec.updateVolumesStrategy !== "Migration") return none;
  const volumes = new Map(machine.spec.template.spec.volumes?.map((volume) => [volume.name, claimNameOf(volume)]));
  if (migrated.every(({ volumeName, sourcePVCInfo }) => volumes.get(volumeName) === sourcePVCInfo.claimName))
    return none;
  const { phase, conditions } = instance?.status ?? {};
  if (instance === undefined || phase === "Succeeded" || phase === "Failed") {
    const wasMoving = hasCondition(machine, VOLUMES_CHANGE) || hasCondition(machine, MANUAL_RECOVERY);
    return { migrated, needsRecovery: wasMoving };
  }
  const isCancelled = conditions?.some(({ type, reason }) => type === VOLUMES_CHANGE && reason === CANCELLED);
  return { migrated: isCancelled ? undefined : migrated, needsRecovery: false };
}
