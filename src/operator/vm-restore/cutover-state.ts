import type { VMRestoreSpec } from "../../api/vm-restore.ts";
import { conditionOf } from "../conditions.ts";
import type { VirtualMachine } from "../kinds.ts";
import { LIVE_ANNOTATIONS, liveBegun } from "./live-state.ts";
import { isOurs } from "./names.ts";
import { conditionsBefore, type Observed } from "./observed.ts";
import { refersToServed } from "./served-claims.ts";

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
 * Whether the machine's disks are the target claims, so that it needs the agent no more. Told by the mark that this operator sets in
 * the same write as the claims: claims alone prove nothing, because people edit machines, and may do so while half is copied.
 */
export function isSwitched(observed: Observed): boolean {
  const { restore, machine } = observed;
  // The machine may be deleted afterwards.
  if (isSwitchTold(observed)) return true;
  return isOurs(restore, machine) && switchedAt(machine) !== undefined && !refersToServed(observed);
}

/** When the machine's disks were switched to the target, as it bears the mark. */
export function switchedAt(machine: VirtualMachine | undefined): string | undefined {
  return machine?.metadata.annotations?.[CUTOVER_ANNOTATIONS.switched];
}

/** Whether the machine was halted to be taken back to the media agent, and is not there yet. From here there is no way but back. */
export function rollbackBegun({ restore, machine }: Observed): boolean {
  return isOurs(restore, machine) && machine?.metadata.annotations?.[ROLLBACK_ANNOTATIONS.runStrategy] !== undefined;
}

/** Whether the machine was taken back to the media agent, since whatever time. */
export function wasRolledBack({ restore, machine }: Pick<Observed, "restore" | "machine">): boolean {
  return isOurs(restore, machine) && machine?.metadata.annotations?.[ROLLBACK_ANNOTATIONS.rolledBack] !== undefined;
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
