import type { Action } from "../actions.ts";
import { isSwitched, pinOf, rollbackBegun, switchedAt } from "./cutover-state.ts";
import { isHeld, LIVE_ANNOTATIONS, liveBegun } from "./live-state.ts";
import { updateMachine } from "./machine-update.ts";
import { isOurs } from "./names.ts";
import type { Observed } from "./observed.ts";

/**
 * Gives a machine its marks back where its instance shows that it is being migrated: who replaces a machine's whole manifest takes them
 * off. An instance is held from before the volumes are pointed at the targets, and for as long as the machine bears the marks.
 */
export function markAgain(observed: Observed): Action[] {
  const { restore, machine, instance } = observed;
  if (machine === undefined || !isOurs(restore, machine) || machine.metadata.deletionTimestamp !== undefined) return [];
  if (instance === undefined || !isOurs(restore, instance) || !isHeld(instance)) return [];
  if (liveBegun(observed) || switchedAt(machine) !== undefined) return [];
  if (isSwitched(observed) || rollbackBegun(observed)) return [];
  const annotations = {
    [LIVE_ANNOTATIONS.instance]: instance.metadata.uid,
    [LIVE_ANNOTATIONS.targets]: instance.metadata.annotations?.[LIVE_ANNOTATIONS.targets] ?? pinOf(observed),
    [LIVE_ANNOTATIONS.began]: new Date(observed.now).toISOString(),
  };
  return [updateMachine(machine, { annotations, spec: { updateVolumesStrategy: "Migration" } })];
}
