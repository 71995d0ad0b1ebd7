import type { Pod } from "../kinds.ts";

export function hasEnded({ status }: Pod): boolean {
  return status?.phase === "Succeeded" || status?.phase === "Failed";
}

/** Whether a machine runs in it, or ran. */
export function isLauncher({ metadata }: Pod): boolean {
  return metadata.labels?.["kubevirt.io"] === "virt-launcher";
}

export function mountsAny({ spec }: Pod, claims: ReadonlySet<string>): boolean {
  return (
    spec?.volumes?.some(({ persistentVolumeClaim: claim }) => claim !== undefined && claims.has(claim.claimName)) ??
    false
  );
}
