import { parseDuration } from "../../api/duration.ts";
import type { VMRestoreStatus } from "../../api/vm-restore-status.ts";
import { type ConditionDraft, conditionOf, isTrue } from "../conditions.ts";
import { goesToTarget } from "./cutover-state.ts";
import { isOurs } from "./names.ts";
import { conditionsBefore, type Observed } from "./observed.ts";
import { no, type Outcome, waits, yes } from "./step.ts";

// A machine whose disks stay in the backup, and when that ends.

type Terms = NonNullable<VMRestoreStatus["liveMount"]>;

const POLL_MS = 5000;

/**
 * What counts of a live mount, and since when. Discarding takes what the guest wrote, so no edit does it at once: the time runs from when
 * the machine became a live mount, and where an edit would put the end into the past, from when the edit was seen. It stands in the
 * status, with the end, before it counts. Undefined: the disks go to a target.
 */
function termsOf(observed: Observed): Terms | undefined {
  if (goesToTarget(observed)) return undefined;
  const { expiresAfter, onExpiry } = observed.spec.liveMount;
  const now = new Date(observed.now).toISOString();
  const before = observed.restore.status?.liveMount;
  const terms = { since: before?.since ?? now, ...(expiresAfter === undefined ? {} : { expiresAfter }), onExpiry };
  const isEdited = before !== undefined && (before.expiresAfter !== expiresAfter || before.onExpiry !== onExpiry);
  const end = endOf(observed, terms);
  return isEdited && end !== undefined && end <= observed.now ? { ...terms, since: now } : terms;
}

/** Milliseconds since the epoch. */
function endOf({ restore, machine }: Observed, { since, expiresAfter }: Terms): number | undefined {
  const created = isOurs(restore, machine) ? machine?.metadata.creationTimestamp : undefined;
  if (expiresAfter === undefined || created === undefined) return undefined;
  return Math.max(Date.parse(created), Date.parse(since)) + parseDuration(expiresAfter);
}

/** Whether the machine is to be discarded because its time is over: by terms that stand in the status already. */
export function isExpired(observed: Observed): boolean {
  if (isTrue(conditionsBefore(observed), "Discarded")) return true;
  const terms = termsOf(observed);
  const told = observed.restore.status?.liveMount;
  if (terms === undefined || terms.onExpiry !== "Discard" || told?.since !== terms.since) return false;
  const end = endOf(observed, terms);
  return end !== undefined && end <= observed.now;
}

/** Nothing more to do for a live mount but to tell when it ends. */
export function liveMount(observed: Observed): Outcome {
  const runs = "The machine runs from its backup, a live mount, as spec.relocation.strategy says";
  const terms = termsOf(observed);
  const end = terms === undefined ? undefined : endOf(observed, terms);
  if (end === undefined) return waits(no("Expired", "Never", `${runs}. It does not expire.`), POLL_MS);
  const left = end - observed.now;
  const time = new Date(end).toISOString();
  const fate = observed.spec.liveMount.onExpiry === "Discard" ? "is discarded" : "is kept all the same";
  return {
    passes: false,
    conditions: [
      left > 0
        ? no("Expired", "NotYet", `${runs}. It expires at ${time} and ${fate} then.`)
        : yes("Expired", "Kept", "The live mount expired. It is kept, as spec.liveMount.onExpiry says."),
    ],
    status: { expiresAt: time },
    againMs: left > 0 ? Math.min(left, POLL_MS) : POLL_MS,
  };
}

/** What was a live mount once is relocated now: nothing expires any more. */
export function neverExpires(observed: Observed): ConditionDraft[] {
  if (!goesToTarget(observed) || conditionOf(conditionsBefore(observed), "Expired") === undefined) return [];
  return [no("Expired", "Relocating", "The disks are relocated: nothing expires.")];
}

export function liveMountStatus(observed: Observed): Partial<VMRestoreStatus> {
  const liveMount = termsOf(observed);
  if (liveMount === undefined) return { expiresAt: undefined, liveMount };
  return { strategy: "None", strategyReason: "A live mount: the disks stay in the backup.", liveMount };
}
