import { parseDuration } from "../../api/duration.ts";
import { remove } from "../actions.ts";
import { conditionOf } from "../conditions.ts";
import { VM_RESTORES } from "../kinds.ts";
import { conditionsBefore, type Observed } from "./observed.ts";
import { acts, type Outcome, passed } from "./step.ts";

/** Timers of a process hold no more than 24 days: longer waits are cut into pieces. */
const LONGEST_WAIT_MS = 3600_000;

/**
 * A completed restore needs nothing more, and goes after the time that its spec gives it. Only the object goes: the machine and its
 * claims do not belong to it any more. One that failed stays, because it holds what people have to look at.
 */
export function liveOn(observed: Observed): Outcome {
  const { restore, spec, now } = observed;
  const completed = conditionOf(conditionsBefore(observed), "Completed");
  if (spec.ttlAfterCompletion === undefined || completed?.status !== "True") return passed();
  const left = Date.parse(completed.lastTransitionTime) + parseDuration(spec.ttlAfterCompletion) - now;
  if (left <= 0) return acts([remove(VM_RESTORES, restore)]);
  return { ...passed(), againMs: Math.min(left, LONGEST_WAIT_MS) };
}
