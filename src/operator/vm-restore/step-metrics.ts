import type { VMRestore } from "../../api/vm-restore.ts";
import type { VMRestoreStatus } from "../../api/vm-restore-status.ts";
import { conditionOf, isTrue } from "../conditions.ts";
import type { OperatorMetrics } from "../runtime/metrics.ts";

/** Counts what a status says for the first time: steps that ended, steps that are late, a guest that is ready. Called once it is written. */
export function countSteps(
  metrics: Pick<OperatorMetrics, "stepEnded" | "stepLate" | "guestReady">,
  { metadata, status: before = {} }: VMRestore,
  after: VMRestoreStatus,
): void {
  for (const { step, startedAt, resumedAt, finishedAt } of after.timeline ?? []) {
    const known = before.timeline?.find((other) => other.step === step);
    // One that ends in the very reading that it begins in is a step, too.
    if (finishedAt === undefined || known?.finishedAt === finishedAt) continue;
    metrics.stepEnded(step, Date.parse(finishedAt) - Date.parse(resumedAt ?? startedAt));
  }
  const late = conditionOf(after.conditions, "InTime");
  if (late?.status === "False" && conditionOf(before.conditions, "InTime")?.reason !== late.reason)
    metrics.stepLate(late.reason.replace(/TakesLong$/, ""));
  const ready = conditionOf(after.conditions, "GuestReady");
  if (ready?.status === "True" && !isTrue(before.conditions, "GuestReady"))
    metrics.guestReady(Date.parse(ready.lastTransitionTime) - Date.parse(metadata.creationTimestamp ?? ""));
}
