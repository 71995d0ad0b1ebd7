import { isSwitched } from "./cutover-state.ts";
import { isOurs } from "./names.ts";
import type { Observed } from "./observed.ts";
import { isOwnTarget } from "./own-claims.ts";

/** What people want to know first of a restore that failed: whether the machine runs, and what was kept. What to do says the condition. */
export function failureFacts(observed: Observed): string {
  const { restore, spec, machine, instance, overlay, disks, settings } = observed;
  const { name } = spec.virtualMachine;
  const runs =
    instance?.status?.phase === "Running"
      ? `VirtualMachine ${name} runs${isSwitched(observed) ? " from its target" : " from the media agent"}.`
      : isOurs(restore, machine)
        ? `VirtualMachine ${name} does not run.`
        : `There is no VirtualMachine ${name} of this restore.`;
  const claims = disks.flatMap((disk) =>
    disk.targetClaim !== undefined && isOwnTarget(restore, disk) ? [disk.targetClaim.metadata.name] : [],
  );
  const kept = [
    ...(overlay === undefined
      ? []
      : [`what it wrote before cutover, in claim ${overlay.metadata.name} of namespace ${settings.namespace}`]),
    ...(claims.length === 0 ? [] : [`what was copied, in claim ${claims.join(", ")}`]),
  ];
  return `${runs} ${kept.length === 0 ? "Nothing of it is kept here; the backup is as it was." : `Kept: ${kept.join("; ")}.`}`;
}
