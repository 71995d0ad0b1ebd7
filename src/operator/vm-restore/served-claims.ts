import { LABELS } from "../../api/group.ts";
import type { VirtualMachine, VirtualMachineVolume } from "../kinds.ts";
import { isOurs, restoreNames } from "./names.ts";
import type { Observed } from "./observed.ts";
import { ownClaimNames, unlabelledClaims } from "./own-claims.ts";

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

/**
 * Whether there is a machine without this restore's label whose disks are claims of this restore. People replace a machine's whole manifest,
 * and the label goes with it; its disks are where they were, whether or not they have lost theirs.
 */
export function lostItsLabel(observed: Observed): boolean {
  const { restore, machine } = observed;
  if (machine === undefined || isOurs(restore, machine)) return false;
  const own = ownClaimNames(observed);
  return claimsOf(volumesOf(machine)).some((claim) => own.has(claim));
}

/** For people, where {@link lostItsLabel}. */
export function howToPutItsLabelBack(observed: Observed): string {
  const { restore, spec } = observed;
  const { name } = spec.virtualMachine;
  const { namespace, uid } = restore.metadata;
  const command = (what: string): string =>
    `\`kubectl label ${what} --namespace ${namespace} ${LABELS.restoreUid}=${uid}\``;
  const claims = unlabelledClaims(observed).map(({ metadata }) => metadata.name);
  const too = claims.length === 0 ? "" : ` Its claims lost theirs, too: ${command(`pvc ${claims.join(" ")}`)}.`;
  return `VirtualMachine ${name} uses disks of this restore, and lost the label that says so. Put it back: ${command(`virtualmachine ${name}`)}.${too}`;
}

/** Whether the machine refers to a claim that the agent serves. */
export function refersToServed(observed: Observed): boolean {
  const claims = new Set(claimsOf(volumesOf(observed.machine)));
  return claimPairs(observed).some(({ served }) => claims.has(served));
}

/** Whether the machine refers to a target claim. */
export function refersToTarget(observed: Observed): boolean {
  const claims = new Set(claimsOf(volumesOf(observed.machine)));
  return claimPairs(observed).some(({ target }) => claims.has(target));
}

/** Which claims the volumes of a machine or an instance refer to: all of one kind and none of the other, or neither. */
export type Place = "Served" | "Target" | "Neither";

export function placeOf(observed: Observed, volumes: Volumes): Place {
  const claims = new Set(claimsOf(volumes));
  const pairs = claimPairs(observed);
  if (pairs.every(({ served, target }) => claims.has(served) && !claims.has(target))) return "Served";
  return pairs.every(({ served, target }) => claims.has(target) && !claims.has(served)) ? "Target" : "Neither";
}

type Volumes = readonly VirtualMachineVolume[] | undefined;

export function volumesOf(machine: VirtualMachine | undefined): Volumes {
  return machine?.spec?.template?.spec?.volumes;
}

/** The claim that a volume of a machine is on. A DataVolume is on the claim of its own name, whether or not there still is a DataVolume. */
export function claimOfVolume({ persistentVolumeClaim: claim, dataVolume }: VirtualMachineVolume): string | undefined {
  const name: unknown = claim?.claimName ?? (dataVolume as { name?: unknown } | undefined)?.name;
  return typeof name === "string" ? name : undefined;
}

/** Claims that volumes of a machine or an instance refer to, each once. */
export function claimsOf(volumes: Volumes): string[] {
  return [...new Set((volumes ?? []).flatMap((volume) => claimOfVolume(volume) ?? []))];
}
