import type { VMRestoreStatus } from "../../api/vm-restore-status.ts";
import type { Action } from "../actions.ts";
import type { ConditionDraft } from "../conditions.ts";
import type { Observed } from "./observed.ts";

/** What one step of a restore comes to. */
export interface Outcome {
  readonly conditions?: readonly ConditionDraft[];
  readonly actions?: readonly Action[];
  /** Whether the next step is looked at. A step with actions never passes: what follows is decided on what they bring about. */
  readonly passes: boolean;
  /** Look again after so many milliseconds, for what no watch tells. */
  readonly againMs?: number;
  readonly status?: Partial<VMRestoreStatus>;
}

export type Step = (observed: Observed) => Outcome;

export function passed(...conditions: ConditionDraft[]): Outcome {
  return { passes: true, conditions };
}

export function waits(condition: ConditionDraft, againMs?: number): Outcome {
  return { passes: false, conditions: [condition], ...(againMs === undefined ? {} : { againMs }) };
}

export function acts(actions: readonly Action[], ...conditions: ConditionDraft[]): Outcome {
  return { passes: false, actions, conditions };
}

/** Goes through the steps until one does not pass, and gathers what they came to. */
export function runSteps(steps: readonly Step[], observed: Observed): Outcome {
  const conditions: ConditionDraft[] = [];
  let againMs: number | undefined;
  let status: Partial<VMRestoreStatus> = {};
  for (const step of steps) {
    const outcome = step(observed);
    conditions.push(...(outcome.conditions ?? []));
    status = { ...status, ...outcome.status };
    if (outcome.againMs !== undefined) againMs = Math.min(againMs ?? outcome.againMs, outcome.againMs);
    if (!outcome.passes || (outcome.actions ?? []).length > 0) {
      return { ...outcome, passes: false, conditions, status, ...(againMs === undefined ? {} : { againMs }) };
    }
  }
  return { passes: true, conditions, status, ...(againMs === undefined ? {} : { againMs }) };
}

export function yes(type: string, reason: string, message: string): ConditionDraft {
  return { type, status: "True", reason, message };
}

export function no(type: string, reason: string, message: string): ConditionDraft {
  return { type, status: "False", reason, message };
}
