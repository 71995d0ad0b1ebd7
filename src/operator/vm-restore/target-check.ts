import { restoreNames } from "./names.ts";
import type { Observed } from "./observed.ts";
import { isOwnTarget } from "./own-claims.ts";
import { type Target, targetOf } from "./relocation-objects.ts";

export interface TargetProblem {
  readonly reason: string;
  readonly message: string;
}

const RENAME = "Set another claimName in spec.relocation.target.perDisk";

/**
 * What is wrong with the claims that the disks are to be copied to. Looked at before anything is made, and again before each claim
 * is: the spec may change meanwhile. A chain, first match counts.
 *
 * @param disks what the plan holds; by default what was observed, which is the same once there is a plan
 */
export function targetProblem(
  { restore, spec, disks: seen }: Observed,
  disks: readonly { readonly name: string; readonly size: number }[] = seen,
): TargetProblem | undefined {
  const names = restoreNames(restore, spec.virtualMachine.name);
  const served = new Set(disks.map(({ name }) => names.served(name).claim));
  const taken = new Map<string, string>();
  for (const disk of disks) {
    const target = targetOf(spec, disk);
    // the claim through which the media agent serves a disk: it would be copied onto itself → ClaimNameTaken
    if (served.has(target.claimName)) {
      return {
        reason: "ClaimNameTaken",
        message: `The target of disk ${disk.name} has the name of a claim that the media agent serves, ${target.claimName}. ${RENAME}.`,
      };
    }
    // two disks in one claim → ClaimNameTaken
    const other = taken.get(target.claimName);
    if (other !== undefined) {
      return {
        reason: "ClaimNameTaken",
        message: `Disks ${other} and ${disk.name} have the same target claim ${target.claimName}. ${RENAME} for one of them.`,
      };
    }
    taken.set(target.claimName, disk.name);
    const problem = claimProblem(
      target,
      isForeign(
        restore,
        seen.find(({ name }) => name === disk.name),
      ),
      spec.replace !== undefined,
    );
    if (problem !== undefined) return problem;
  }
  // a name that no disk has → DiskNotFound
  const unknown = (spec.relocation.target.perDisk ?? []).find(({ name }) => !disks.some((disk) => disk.name === name));
  if (unknown === undefined) return undefined;
  const held = disks.map(({ name }) => name).join(", ");
  return {
    reason: "DiskNotFound",
    message: `spec.relocation.target.perDisk names disk ${unknown.name}, which the backup does not hold. It holds ${held}.`,
  };
}

function claimProblem(target: Target, foreign: boolean, isReplacing: boolean): TargetProblem | undefined {
  // a claim of somebody else → ClaimExists
  if (foreign) {
    // Where a machine is replaced, it may be one of those that are to be kept.
    const advice = isReplacing ? "Set" : "Delete it, or set";
    return {
      reason: "ClaimExists",
      message: `There is a claim ${target.claimName} already, and it is not touched. ${advice} another claimName for disk ${target.disk} in spec.relocation.target.perDisk.`,
    };
  }
  // a size that the disk does not fit into → TargetTooSmall
  if ("problem" in target.size)
    return { reason: "TargetTooSmall", message: `Disk ${target.disk}: ${target.size.problem}` };
  return undefined;
}

function isForeign(restore: Observed["restore"], disk: Observed["disks"][number] | undefined): boolean {
  return disk?.targetClaim !== undefined && !isOwnTarget(restore, disk);
}
