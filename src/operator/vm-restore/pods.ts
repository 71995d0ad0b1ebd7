import type { Pod, VirtualMachineInstance } from "../kinds.ts";

export function hasEnded({ status }: Pod): boolean {
  return status?.phase === "Succeeded" || status?.phase === "Failed";
}

/** Whether a machine runs in it, or ran. */
export function isLauncher({ metadata }: Pod): boolean {
  return metadata.labels?.["kubevirt.io"] === "virt-launcher";
}

/**
 * The pod in which an instance is to start, or to go on, as long as it does not; the latest, where there are several.
 *
 * @param migrates whether the instance is to move to another pod while it runs
 */
export function startingLauncher(
  pods: readonly Pod[],
  instance: VirtualMachineInstance | undefined,
  migrates = false,
): Pod | undefined {
  if (instance === undefined || instance.metadata.deletionTimestamp !== undefined) return undefined;
  if (!migrates && !["Pending", "Scheduling", undefined].includes(instance.status?.phase)) return undefined;
  return pods
    .filter((pod) => isLauncher(pod) && pod.metadata.deletionTimestamp === undefined)
    .filter(({ status }) => status?.phase === "Pending" || status?.phase === undefined)
    .sort((a, b) => (a.metadata.creationTimestamp ?? "").localeCompare(b.metadata.creationTimestamp ?? ""))
    .at(-1);
}

export function mountsAny({ spec }: Pod, claims: ReadonlySet<string>): boolean {
  return (
    spec?.volumes?.some(({ persistentVolumeClaim: claim }) => claim !== undefined && claims.has(claim.claimName)) ??
    false
  );
}
