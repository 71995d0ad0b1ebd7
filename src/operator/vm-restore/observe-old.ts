import type { VMRestore, VMRestoreSpec } from "../../api/vm-restore.ts";
import { CLAIMS, NAMESPACES, type Pod, SECRETS, type VirtualMachine, type VirtualMachineInstance } from "../kinds.ts";
import type { ClusterReads } from "../runtime/cluster.ts";
import { isOurs, restoreNames, SET_ASIDE_LABEL, STATE_LABEL } from "./names.ts";
import type { ObservedOld } from "./observed.ts";
import type { Plan } from "./plan.ts";
import { claimsOf, volumesOf } from "./served-claims.ts";

/** On the old machine while its place is taken, and on the one that was put back: the uid of the VMRestore. */
export const REPLACE_ANNOTATIONS = {
  replacing: "vmrestore.io/being-replaced-by",
  runStrategy: "vmrestore.io/replaced-run-strategy",
  putBack: "vmrestore.io/put-back-by",
} as const;

/** Whether that is the machine whose place the restored one takes: the one with the uid, or what was put back of it. */
export function isReplaced(restore: VMRestore, spec: VMRestoreSpec, machine: VirtualMachine | undefined): boolean {
  if (machine === undefined || spec.replace === undefined || isOurs(restore, machine)) return false;
  const { uid, annotations } = machine.metadata;
  return uid === spec.replace.confirmUid || annotations?.[REPLACE_ANNOTATIONS.putBack] === restore.metadata.uid;
}

/** Reads what is to be known of the machine that is replaced; undefined where none is. */
export async function observeOld(
  cluster: ClusterReads,
  seen: {
    readonly restore: VMRestore;
    readonly spec: VMRestoreSpec;
    readonly plan: Plan | undefined;
    readonly machine: VirtualMachine | undefined;
    readonly instance: VirtualMachineInstance | undefined;
    /** The restored machine is there. */
    readonly isPlaceTaken: boolean;
    /** Of the namespace. */
    readonly pods: readonly Pod[];
  },
): Promise<ObservedOld | undefined> {
  const { restore, spec, plan, machine, instance, isPlaceTaken, pods } = seen;
  if (spec.replace === undefined) return undefined;
  const { namespace, deletionTimestamp } = restore.metadata;
  const { name } = spec.virtualMachine;
  const isBetween = plan !== undefined && !isPlaceTaken;
  const [secret, stateClaims, setAside, space] = await Promise.all([
    plan === undefined ? undefined : cluster.get(SECRETS, namespace, restoreNames(restore, name).replaced),
    isBetween ? cluster.list(CLAIMS, namespace, `${STATE_LABEL}=${name}`) : [],
    isBetween ? cluster.list(CLAIMS, namespace, `${SET_ASIDE_LABEL}=${restore.metadata.uid}`) : [],
    deletionTimestamp === undefined ? undefined : cluster.get(NAMESPACES, undefined, namespace ?? ""),
  ]);
  const claims = new Set(claimsOf(volumesOf(machine)));
  return {
    machine,
    instance,
    pods: pods.filter(
      ({ metadata, spec: of }) =>
        // Launchers, and the pods that hold hot-plugged disks.
        metadata.labels?.["kubevirt.io"] !== undefined &&
        of?.volumes?.some((volume) => claims.has(volume.persistentVolumeClaim?.claimName ?? "")),
    ),
    secret: isOurs(restore, secret) ? secret : undefined,
    stateClaims,
    setAside,
    isNamespaceGoing: space?.metadata.deletionTimestamp !== undefined,
  };
}
