import { LABELS } from "../../api/group.ts";
import type { VMRestore } from "../../api/vm-restore.ts";
import { isTrue } from "../conditions.ts";
import type { Claim } from "../kinds.ts";
import { isOurs, restoreNames } from "./names.ts";
import { conditionsBefore, type Observed, type ObservedDisk } from "./observed.ts";

// Which claims are a restore's own. People take labels off, of a machine and of all its claims at once; what is told here does not depend on them.

/** Whether the agent serves the disk through that very claim: which volume a claim is of never changes, and the volume's name is nobody else's. */
export function isOwnServed(restore: VMRestore, { name, claim }: Pick<ObservedDisk, "name" | "claim">): boolean {
  if (claim === undefined) return false;
  return isOurs(restore, claim) || claim.spec?.volumeName === restoreNames(restore, "").served(name).volume;
}

/** Whether the disk is copied to that very claim: the status tells its uid before the first byte is. */
export function isOwnTarget(
  restore: VMRestore,
  { name, targetClaim: claim }: Pick<ObservedDisk, "name" | "targetClaim">,
): boolean {
  if (claim === undefined) return false;
  const recorded = restore.status?.targetClaims?.find(({ disk }) => disk === name);
  return isOurs(restore, claim) || (recorded !== undefined && recorded.uid === claim.metadata.uid);
}

/**
 * Names of claims that are this restore's disks for who refers to them. That is also so of one that was deleted, or made anew by somebody, as long as
 * the agent has what it stood for: whoever refers to it would be left without. Not for deciding what may be written or deleted.
 */
export function ownClaimNames(observed: Observed): ReadonlySet<string> {
  const { restore, spec, disks, machine } = observed;
  const names = restoreNames(restore, spec.virtualMachine.name);
  // Two restores may have had one name in mind: of the other one's machine and claims, names prove nothing.
  const mayBeOurs = (claim: Claim | undefined): boolean => !isAnothers(restore, machine) && !isAnothers(restore, claim);
  const isSwitched = isTrue(conditionsBefore(observed), "CutOver");
  const own = disks.flatMap((disk) => {
    const { name, claim, targetClaim, volume, target } = disk;
    const served = names.served(name).claim;
    const recorded = restore.status?.targetClaims?.find(({ disk }) => disk === name)?.name;
    const isServed = isOwnServed(restore, disk) || (volume !== undefined && mayBeOurs(claim));
    const isTarget = isOwnTarget(restore, disk) || (isSwitched && mayBeOurs(targetClaim));
    const isRecorded = mayBeOurs(recorded === target.claimName ? targetClaim : undefined);
    return [
      ...(isServed ? [served] : []),
      ...(isTarget ? [target.claimName] : []),
      ...(recorded !== undefined && isRecorded ? [recorded] : []),
    ];
  });
  return new Set(own);
}

/** Claims of this restore that bear no label of it any more. */
export function unlabelledClaims({ restore, disks }: Observed): Claim[] {
  return disks.flatMap((disk) =>
    [
      isOwnServed(restore, disk) ? disk.claim : undefined,
      isOwnTarget(restore, disk) ? disk.targetClaim : undefined,
    ].flatMap((claim) => (claim === undefined || isOurs(restore, claim) ? [] : [claim])),
  );
}

/** Whether it bears the label of another restore. */
function isAnothers(
  restore: VMRestore,
  object: { metadata: { labels?: Record<string, string> } } | undefined,
): boolean {
  return object?.metadata.labels?.[LABELS.restoreUid] !== undefined && !isOurs(restore, object);
}
