import type { Condition } from "../../api/common.ts";
import { formatDuration, parseDuration } from "../../api/duration.ts";
import type { VMRestoreSpec } from "../../api/vm-restore.ts";
import type { VMRestoreStatus } from "../../api/vm-restore-status.ts";
import { type ConditionDraft, conditionOf } from "../conditions.ts";
import { STOPPED_REASONS } from "./guest.ts";
import { no, yes } from "./step.ts";

const IN_TIME = "InTime";

/**
 * How long a step on the way to a guest that is ready should take, in milliseconds; undefined for those that wait for people or depend
 * on how much is copied.
 */
export function budgetOf(step: string, { launch }: Pick<VMRestoreSpec, "launch">): number | undefined {
  switch (step) {
    // A pod looks into the backup.
    case "Pending":
      return 30_000;
    // Claims are bound, a pod starts, the index is read.
    case "Preparing":
      return 60_000;
    case "Staging":
      return parseDuration(launch.bootSetTimeout) + 5_000;
    case "Launching":
      return parseDuration(launch.guestReady.timeout);
    case "RollingBack":
      return 5 * 60_000;
    default:
      return undefined;
  }
}

/**
 * Whether the step under way takes longer than it should. Said once for each step, and not at all for a restore that never was late.
 *
 * @param timeline as it is now
 * @param waitsFor what the restore waits for, in words
 */
export function inTime(options: {
  readonly spec: Pick<VMRestoreSpec, "launch">;
  readonly before: readonly Condition[];
  readonly timeline: NonNullable<VMRestoreStatus["timeline"]>;
  readonly waitsFor: string;
  /** What that is, and since when. */
  readonly waits: VMRestoreStatus["waiting"];
  readonly now: number;
}): ConditionDraft[] {
  const { spec, before, timeline, waitsFor, waits, now } = options;
  const open = timeline.find(({ finishedAt }) => finishedAt === undefined);
  const guest = open?.step === "Launching" ? conditionOf(before, "GuestReady")?.reason : undefined;
  // Nobody is late for what people are to do, and a boot begins when they have done it.
  const budget = open === undefined || STOPPED_REASONS.includes(guest ?? "") ? undefined : budgetOf(open.step, spec);
  const begun = open?.resumedAt ?? open?.startedAt ?? "";
  const isTold = conditionOf(before, IN_TIME)?.reason === `${open?.step}TakesLong`;
  const boots = guest === "Booting" && waits?.reason === guest && !isTold ? waits.since : begun;
  const since = Date.parse(boots) > Date.parse(begun) ? boots : begun;
  if (open !== undefined && budget !== undefined && now - Date.parse(since) > budget) {
    const message = `${open.step} has lasted since ${since}; it should take no more than ${formatDuration(budget)}. ${waitsFor}`;
    return [no(IN_TIME, `${open.step}TakesLong`, message)];
  }
  if (conditionOf(before, IN_TIME)?.status !== "False") return [];
  return [yes(IN_TIME, "AsExpected", "No step takes longer than it should.")];
}
