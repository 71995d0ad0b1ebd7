import { restoreNames } from "./names.ts";
import type { Observed } from "./observed.ts";

/** The claims that the agent serves, by the targets that take their place. */
export function claimPairs({ restore, spec, disks }: Observed): { served: string; target: string }[] {
  const names = restoreNames(restore, spec.virtualMachine.name);
  return disks.map(({ name, target }) => ({ served: names.served(name).claim, target: target.claimName }));
}

/** The claims that take each other's place when the machine goes to its target, or back to the agent: the new one by the old one. */
export function claimsTowards(observed: Observed, place: "Target" | "Served"): ReadonlyMap<string, string> {
  return new Map(
    claimPairs(observed).map(({ served, target }) => (place === "Target" ? [served, target] : [target, served])),
  );
}

/** Whether the machine refers to a claim that the agent serves. */
export function refersToServed(observed: Observed): boolean {
  const served = new Set<string | undefined>(claimPairs(observed).map((pair) => pair.served));
  const volumes = observed.machine?.spec?.template?.spec?.volumes ?? [];
  return volumes.some(({ persistentVolumeClaim: claim }) => served.has(claim?.claimName));
}
