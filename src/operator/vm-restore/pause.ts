import { removeIfThere } from "../actions.ts";
import { type ConditionDraft, conditionOf } from "../conditions.ts";
import { JOBS } from "../kinds.ts";
import { conditionsBefore, type Observed } from "./observed.ts";
import { no, type Outcome } from "./step.ts";

/**
 * Relocation while spec.relocation.paused says so: the Job goes, the claims and what is durable in them stay, and the machine runs on
 * from the media agent. The Job that is made afterwards goes on where this one ended. A machine that was halted for cutover is not
 * paused any more: it would stand still for nothing.
 *
 * @param progress how far it is, in words
 */
export function pauseRelocation(observed: Observed, progress: string): Outcome {
  const message = `Relocation is paused, and the machine runs on from the media agent. ${progress} To go on, set spec.relocation.paused to false.`;
  const paused = withoutJob(observed, no("Relocated", "Paused", message));
  const cutover = withoutCutover(observed, "Paused", "Relocation is paused.");
  return { ...paused, conditions: [...cutover, ...(paused.conditions ?? [])] };
}

/** Nothing is copied: the Job is ended, and what is to be said is said once it is gone. */
export function withoutJob({ job, jobPods }: Observed, condition: ConditionDraft): Outcome {
  if (job === undefined && jobPods.length === 0) return { passes: false, conditions: [condition] };
  const ending = { ...condition, message: "The relocation Job is ending." };
  return { passes: false, actions: removeIfThere(JOBS, job), conditions: [ending], againMs: 1000 };
}

/** A cutover that was waited for is not any more: what the condition said before is no longer so. */
export function withoutCutover(observed: Observed, reason: string, message: string): ConditionDraft[] {
  const before = conditionOf(conditionsBefore(observed), "CutOver");
  return before === undefined ? [] : [no("CutOver", reason, message)];
}
