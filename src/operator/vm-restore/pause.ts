import { remove } from "../actions.ts";
import type { ConditionDraft } from "../conditions.ts";
import { conditionOf } from "../conditions.ts";
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
  const { job, jobPods } = observed;
  const stop = job === undefined || job.metadata.deletionTimestamp !== undefined ? [] : [remove(JOBS, job)];
  const isStopping = job !== undefined || jobPods.length > 0;
  const message = isStopping
    ? "Relocation is being paused: its Job is ending."
    : `Relocation is paused, and the machine runs on from the media agent. ${progress} To go on, set spec.relocation.paused to false.`;
  return {
    passes: false,
    actions: stop,
    conditions: [...withoutCutover(observed, "Paused", "Relocation is paused."), no("Relocated", "Paused", message)],
    ...(isStopping ? { againMs: 1000 } : {}),
  };
}

/** A cutover that was waited for is not any more: what the condition said before is no longer so. */
export function withoutCutover(observed: Observed, reason: string, message: string): ConditionDraft[] {
  const before = conditionOf(conditionsBefore(observed), "CutOver");
  return before === undefined ? [] : [no("CutOver", reason, message)];
}
