import { type ConditionDraft, conditionOf } from "../conditions.ts";
import { cutoverBegun } from "./cutover-state.ts";
import { isGuestLate, whyStopped } from "./guest.ts";
import { liveProblems, tooSlow } from "./live-check.ts";
import { givenUp, liveBegun } from "./live-state.ts";
import { conditionsBefore, type Observed } from "./observed.ts";
import { no, yes } from "./step.ts";

/** How the disks get to the target, and why it is this way, for people. */
export interface Choice {
  /** Undefined: cannot be told yet. */
  readonly strategy: "LiveMigration" | "Copy" | undefined;
  readonly reason: string;
  /** Whether the machine can be migrated live, where that was looked at. */
  readonly condition?: ConditionDraft;
}

const POSSIBLE = "LiveMigrationPossible";

/** What the status has room for: KubeVirt's messages may be long. */
const REASON_LIMIT = 2048;

/** For a restore whose disks are relocated at all. Decides anew at each look, until something was begun: then it is what was begun. */
export function chooseStrategy(observed: Observed): Choice {
  const { spec, restore, job, jobSecret } = observed;
  const asked = spec.relocation.strategy;
  const before = restore.status;
  const toldFor = (strategy: string): string | undefined =>
    before?.strategy === strategy ? before.strategyReason : undefined;
  if (cutoverBegun(observed))
    return { strategy: "Copy", reason: toldFor("Copy") ?? "Copy: the machine is halted for its cutover." };
  if (liveBegun(observed))
    return { strategy: "LiveMigration", reason: toldFor("LiveMigration") ?? "KubeVirt moves the running machine." };
  if (asked === "Copy") return { strategy: "Copy", reason: "Copy, as asked." };
  if (asked === "Auto" && (job !== undefined || jobSecret !== undefined))
    return { strategy: "Copy", reason: toldFor("Copy") ?? copying("copying has begun already") };
  const tired = givenUp(observed);
  if (tired !== undefined)
    return asked === "Auto"
      ? { strategy: "Copy", reason: copying(tired) }
      : { strategy: "LiveMigration", reason: "Live migration, as asked." };
  const undecided = "Which way the disks are relocated is decided when the machine runs where it is to run.";
  if (observed.kubevirts === undefined) return { strategy: undefined, reason: undecided };
  const problems = liveProblems(observed);
  const [first] = problems;
  const all = problems.map(({ message }) => message).join("; ");
  const condition =
    first === undefined
      ? yes(POSSIBLE, "Possible", "Cluster and machine have what a live migration of the disks needs.")
      : no(POSSIBLE, first.reason, `The machine cannot be migrated live: ${all}.`);
  if (asked === "LiveMigration") return { strategy: "LiveMigration", reason: "Live migration, as asked.", condition };
  // It may be starting, or be moved for another reason.
  const passes = ({ reason }: { reason: string }): boolean =>
    reason === "MigrationUnderWay" || (reason === "NotRunning" && mayRunSoon(observed));
  if (problems.length > 0 && problems.every(passes))
    return {
      strategy: undefined,
      reason: undecided,
      condition,
    };
  if (first !== undefined)
    return { strategy: "Copy", reason: copying(`live migration is not possible: ${all}`), condition };
  if (spec.relocation.bandwidthLimit !== undefined)
    return {
      strategy: "Copy",
      reason: copying("spec.relocation.bandwidthLimit cannot be kept by KubeVirt"),
      condition,
    };
  const slow = tooSlow(observed);
  if (slow !== undefined) return { strategy: "Copy", reason: copying(slow), condition };
  return {
    strategy: "LiveMigration",
    reason: "Auto chose LiveMigration: the machine runs on while KubeVirt moves its disks.",
    condition,
  };
}

function copying(why: string): string {
  return `Auto chose Copy: ${why.replace(/\.$/, "").slice(0, REASON_LIMIT)}. The machine restarts once at cutover.`;
}

function mayRunSoon(observed: Observed): boolean {
  if (whyStopped(observed) !== undefined) return false;
  const wasReady = conditionOf(conditionsBefore(observed), "GuestReady")?.status === "True";
  return wasReady || !isGuestLate(observed);
}
