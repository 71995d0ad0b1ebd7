import type { VMRestoreSpec } from "../../api/vm-restore.ts";

/** How the disks will get to the target, as far as it can be told before there is a machine, and why, for people. */
export function plannedStrategy({ relocation }: VMRestoreSpec): { strategy: string; strategyReason: string } {
  const { strategy, bandwidthLimit } = relocation;
  switch (strategy) {
    case "None":
      return { strategy, strategyReason: "A live mount: the disks stay in the backup." };
    case "Copy":
      return { strategy, strategyReason: "Copy, as asked. The machine restarts once at cutover." };
    case "LiveMigration":
      return {
        strategy,
        strategyReason: "Live migration, as asked. Whether the machine can be moved shows once it runs.",
      };
    case "Auto":
      if (bandwidthLimit !== undefined)
        return {
          strategy: "Copy",
          strategyReason: "Auto chooses Copy: spec.relocation.bandwidthLimit cannot be kept by KubeVirt.",
        };
      return {
        strategy,
        strategyReason:
          "Decided when the machine runs: LiveMigration where cluster, machine and the measured rate allow it, else Copy with one restart.",
      };
  }
}
