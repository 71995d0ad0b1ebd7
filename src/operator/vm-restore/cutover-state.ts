import type { VMRestoreSpec } from "../../api/vm-restore.ts";
import { conditionOf, isTrue } from "../conditions.ts";
import type { VirtualMachine } from "../kinds.ts";
import { LIVE_ANNOTATIONS, liveBegun } from "./live-state.ts";
import { isOurs } from "./names.ts";
import { conditionsBefore, type Observed } from "./observed.ts";
import { placeOf, refersToServed, volumesOf } from "./served-claims.ts";

/** On the machine while it is cut over, so that a new operator knows what it was like before. RFC 3339 times. */
export const CUTOVER_ANNOTATIONS = {
  began: "vmrestore.io/cutover-began",
  switched: "vmrestore.io/cutover-switched",
  runStrategy: "vmrestore.io/cutover-run-strategy",
  /** Which claims its disks go to, or are on, until the machine is taken back, whatever becomes of the spec: `disk=claim`, with commas. */
  targets: "vmrestore.io/cutover-targets",
} as const;

/** On the machine while it is taken back from its target to the media agent, and afterwards. */
export const ROLLBACK_ANNOTATIONS = {
  rolledBack: "vmrestore.io/rolled-back",
  /** When it was switched to the target. */
  lostSince: "vmrestore.io/rollback-lost-since",
  runStrategy: "vmrestore.io/rollback-run-strategy",
} as const;

/** Reason of the condition CutOver while the disks are about to be switched. */
export const SWITCHING = "Switching";

/** Whether the machine was halted for cutover and not switched yet: from here it goes forward, unless people take it back. */
export function cutoverBegun({ restore, machine }: Pick<Observed, "restore" | "machine">): boolean {
  const annotations = machine?.metadata.annotations ?? {};
  return isOurs(restore, machine) && annotations[CUTOVER_ANNOTATIONS.runStrategy] !== undefined;
}

/** The target claims that a cutover or a live migration was begun with, or the machine is on, by disk. */
export function pinnedTargets({ restore, machine }: Pick<Observed, "restore" | "machine">): Map<string, string> {
  const annotations = isOurs(restore, machine) ? machine?.metadata.annotations : undefined;
  const text = annotations?.[LIVE_ANNOTATIONS.targets] ?? annotations?.[CUTOVER_ANNOTATIONS.targets] ?? "";
  const pairs = text.split(",").map((pair) => pair.split("="));
  return new Map(pairs.flatMap(([disk = "", claim]) => (claim === undefined ? [] : [[disk, claim] as const])));
}

/** The targets as they are now, for {@link pinnedTargets}. */
export function pinOf({ disks }: Pick<Observed, "disks">): string {
  return disks.map(({ name, target }) => `${name}=${target.claimName}`).join(",");
}

/** Whether the disks are to be relocated at all. */
export function usesTargets(spec: VMRestoreSpec): boolean {
  return spec.relocation.strategy !== "None";
}

/** Whether the disks are on their way to the target: as the spec says, and in any case while the machine is halted or migrated for it. */
export function goesToTarget(observed: Observed): boolean {
  return usesTargets(observed.spec) || cutoverBegun(observed) || liveBegun(observed);
}

/** Whether the status says that the disks were switched. */
export function isSwitchTold(observed: Observed): boolean {
  const before = conditionOf(conditionsBefore(observed), "CutOver");
  return before?.status === "True" || before?.reason === "Starting";
}

/**
 * Whether the status says that the disks are about to be switched: every byte is on the target then, and nothing else is written. That is
 * so of the very claims that were copied to: one that was made anew has nothing on it.
 */
export function isSwitchForetold(observed: Observed): boolean {
  const { restore, disks } = observed;
  const conditions = conditionsBefore(observed);
  if (conditionOf(conditions, "CutOver")?.reason !== SWITCHING || !isTrue(conditions, "Relocated")) return false;
  const copied = new Map(restore.status?.targetClaims?.map(({ disk, uid }) => [disk, uid]));
  return disks.every(({ name, targetClaim: claim }) => claim !== undefined && copied.get(name) === claim.metadata.uid);
}

/**
 * Whether the machine's disks are the target claims, so that it needs the agent no more. Told by the mark that this operator sets in
 * the same write as the claims: claims alone prove nothing, because people edit machines, and may do so while half is copied.
 */
export function isSwitched(observed: Observed): boolean {
  const { restore, machine } = observed;
  // The machine may be deleted afterwards.
  if (isSwitchTold(observed)) return true;
  // It may be deleted, or lose its marks, before anybody saw what became of the switch.
  if (isSwitchForetold(observed) && (machine === undefined || isOnTargets(observed))) return true;
  return isOurs(restore, machine) && switchedAt(machine) !== undefined && !refersToServed(observed);
}

function isOnTargets(observed: Observed): boolean {
  const { restore, machine } = observed;
  return isOurs(restore, machine) && placeOf(observed, volumesOf(machine)) === "Target";
}

/** When the machine's disks were switched to the target, as it bears the mark. */
export function switchedAt(machine: VirtualMachine | undefined): string | undefined {
  return machine?.metadata.annotations?.[CUTOVER_ANNOTATIONS.switched];
}

/**
 * Since when the machine has been writing to its target; undefined where it never did. One that lost its mark has done so since no earlier
 * than its cutover began.
 */
export function onTargetSince(observed: Observed): string | undefined {
  const { restore, machine } = observed;
  const marked = switchedAt(machine);
  if (marked !== undefined || machine === undefined || refersToServed(observed)) return marked;
  const step = restore.status?.timeline?.find((each) => each.step === "CuttingOver");
  return step?.resumedAt ?? step?.startedAt ?? restore.metadata.creationTimestamp;
}

/**
 * Whether the machine was halted to be taken back to the media agent, and is not there yet. From here there is no way but back. The
 * status says so for a machine that lost its marks.
 */
export function rollbackBegun(observed: Observed): boolean {
  const { restore, machine } = observed;
  if (!isOurs(restore, machine)) return false;
  const { [ROLLBACK_ANNOTATIONS.runStrategy]: runStrategy, [ROLLBACK_ANNOTATIONS.rolledBack]: rolledBack } =
    machine?.metadata.annotations ?? {};
  if (runStrategy !== undefined) return true;
  return rolledBack === undefined && conditionOf(conditionsBefore(observed), "CutOver")?.reason === "RollingBack";
}

/** Whether the machine was taken back to the media agent, since whatever time. The status says so for one that lost its marks. */
export function wasRolledBack({ restore, machine }: Pick<Observed, "restore" | "machine">): boolean {
  if (!isOurs(restore, machine)) return false;
  if (machine?.metadata.annotations?.[ROLLBACK_ANNOTATIONS.rolledBack] !== undefined) return true;
  return isTrue(restore.status?.conditions, "RolledBack");
}

/**
 * Whether the machine is not to be relocated until people say so: it was taken back to the media agent, or would be at once. One that is
 * halted for its cutover is not held: it would stand still for good.
 */
export function isHeldBack(observed: Observed): boolean {
  if (cutoverBegun(observed)) return false;
  const { trial } = observed.spec.relocation;
  if (trial?.decision === "RollBack") return true;
  return wasRolledBack(observed) && trial?.decision === undefined && trial?.onExpiry === "RollBack";
}
