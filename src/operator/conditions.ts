import type { Condition } from "../api/common.ts";

/** A condition as decided now; when it changed is found by comparing with the one before. */
export interface ConditionDraft {
  readonly type: string;
  readonly status: "True" | "False" | "Unknown";
  readonly reason: string;
  readonly message: string;
}

export function conditionOf(conditions: readonly Condition[] | undefined, type: string): Condition | undefined {
  return conditions?.find((condition) => condition.type === type);
}

export function isTrue(conditions: readonly Condition[] | undefined, type: string): boolean {
  return conditionOf(conditions, type)?.status === "True";
}

/** The conditions after a decision: what was not decided stays, and `lastTransitionTime` moves with the status only. */
export function mergeConditions(
  before: readonly Condition[],
  drafts: readonly ConditionDraft[],
  options: { readonly now: number; readonly generation: number },
): Condition[] {
  const merged = new Map(before.map((condition) => [condition.type, condition]));
  for (const draft of drafts) {
    const old = merged.get(draft.type);
    const unchanged = old !== undefined && old.status === draft.status;
    merged.set(draft.type, {
      ...draft,
      observedGeneration: options.generation,
      lastTransitionTime: unchanged ? old.lastTransitionTime : new Date(options.now).toISOString(),
    });
  }
  return [...merged.values()];
}

/** Those that say something new: another status or reason. Told as events. */
export function changedConditions(before: readonly Condition[], after: readonly Condition[]): Condition[] {
  return after.filter((condition) => {
    const old = conditionOf(before, condition.type);
    return old === undefined || old.status !== condition.status || old.reason !== condition.reason;
  });
}
