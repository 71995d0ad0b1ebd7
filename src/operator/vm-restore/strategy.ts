import type { VMRestoreSpec } from "../../api/vm-restore.ts";

/** How the disks get to the target. `Auto` copies: this version cannot migrate live. */
export function strategyOf(spec: VMRestoreSpec): "Copy" | "None" {
  return spec.relocation.strategy === "None" ? "None" : "Copy";
}

export function usesTargets(spec: VMRestoreSpec): boolean {
  return strategyOf(spec) === "Copy";
}

/** Why it is this strategy, for people. */
export function strategyReason(spec: VMRestoreSpec): string {
  if (spec.relocation.strategy === "Auto")
    return "Auto chose Copy: this version cannot migrate live. The machine restarts once at cutover.";
  return strategyOf(spec) === "Copy" ? "Copy, as asked." : "A live mount: the disks stay in the backup.";
}
