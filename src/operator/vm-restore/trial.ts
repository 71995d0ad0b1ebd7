import { parseDuration } from "../../api/duration.ts";
import { type ConditionDraft, conditionOf, isTrue } from "../conditions.ts";
import { runAgent } from "./agent-step.ts";
import { onTargetSince } from "./cutover-state.ts";
import { isGuestReady } from "./guest.ts";
import { isOurs } from "./names.ts";
import { conditionsBefore, type Observed } from "./observed.ts";
import type { Plan } from "./plan.ts";
import { howToPutItsLabelBack, lostItsLabel, refersToServed } from "./served-claims.ts";
import { no, type Outcome, passed, waits, yes } from "./step.ts";

const COMMITTED = "Committed";
const LONGEST_WAIT_MS = 3600_000;
const POLL_MS = 5000;
const DECIDE =
  "set spec.relocation.trial.decision to Commit to let the media agent go, or to RollBack to go back to it";

/** Whether there is no way back any more. Written down before the first thing of the media agent is removed. */
export function isCommitted(observed: Observed): boolean {
  return isTrue(conditionsBefore(observed), COMMITTED);
}

/** Whether there is nothing to go back to: an overlay that somebody deleted ends with the agent's pod. */
export function isOverlayLost({ overlay }: Pick<Observed, "overlay">): boolean {
  return overlay === undefined || overlay.metadata.deletionTimestamp !== undefined;
}

/** Whether people set the volumes of a machine that was switched back by hand: then it needs the agent, whatever was decided. */
function usesAgent(observed: Observed): boolean {
  const { restore, machine } = observed;
  return isOurs(restore, machine) && machine?.metadata.deletionTimestamp === undefined && refersToServed(observed);
}

/** What is to become of a machine that runs from its target. */
type Verdict =
  | { readonly is: "commit"; readonly reason: string; readonly message: string }
  | { readonly is: "roll back" }
  /** @param endsAt milliseconds since the epoch; undefined: when people say so */
  | { readonly is: "wait"; readonly endsAt: number | undefined; readonly message: string };

/** A chain, first match counts. Pure; asked before anything is torn down and before anything is taken back. */
export function verdictOf(observed: Observed): Verdict {
  const { restore, spec, machine, now } = observed;
  const { trial } = spec.relocation;
  // no trial was asked for → commit
  if (trial === undefined)
    return {
      is: "commit",
      reason: "NoTrial",
      message: "The machine is on its target for good: no trial was asked for.",
    };
  // nothing can go back any more → commit
  if (restore.metadata.deletionTimestamp !== undefined)
    return { is: "commit", reason: "Deleted", message: "The VMRestore was deleted: the machine stays on its target." };
  if (lostItsLabel(observed) && trial.decision !== "Commit")
    return { is: "wait", endsAt: undefined, message: howToPutItsLabelBack(observed).replace(/\.$/, "") };
  if (!isOurs(restore, machine) && !lostItsLabel(observed))
    return {
      is: "commit",
      reason: "MachineDeleted",
      message: "The machine was deleted: there is nothing to take back.",
    };
  if (isOverlayLost(observed)) {
    const message = "The media agent's overlay is gone, and with it the way back: the machine stays on its target.";
    return { is: "commit", reason: "NoWayBack", message };
  }
  // people have decided
  if (trial.decision === "RollBack") return { is: "roll back" };
  if (trial.decision === "Commit")
    return {
      is: "commit",
      reason: "Decided",
      message: "The machine is on its target for good, as spec.relocation.trial.decision says.",
    };
  // it did not even start there yet → the trial has not begun
  const cutOver = conditionOf(conditionsBefore(observed), "CutOver");
  if (cutOver?.status !== "True")
    return { is: "wait", endsAt: undefined, message: "The machine is on trial once its guest is ready on the target" };
  const endsAt = Date.parse(cutOver.lastTransitionTime) + parseDuration(trial.period);
  if (now < endsAt)
    return {
      is: "wait",
      endsAt,
      message: `The machine is on trial on its target until ${new Date(endsAt).toISOString()}`,
    };
  if (trial.onExpiry === "RollBack") return { is: "roll back" };
  if (trial.onExpiry === "Wait")
    return {
      is: "wait",
      endsAt: undefined,
      message: "The machine is on its target, and its trial ends when you say so",
    };
  // a guest that never got ready proves nothing → only people commit it
  if (cutOver.reason === "GuestNotReady" && !isGuestReady(observed)) {
    return {
      is: "wait",
      endsAt: undefined,
      message: "The machine's trial is over, but its guest never got ready on the target",
    };
  }
  return {
    is: "commit",
    reason: "TrialOver",
    message: `The trial of ${trial.period} is over: the machine is on its target for good.`,
  };
}

/**
 * Keeps the media agent, sealed and with everything that was written to it, for as long as the machine is on trial on its target.
 * Passes once it is committed, and that stands in the status.
 */
export function awaitVerdict(observed: Observed, plan: Plan): Outcome {
  if (isCommitted(observed)) return passed();
  if (usesAgent(observed)) return keepForMachine(observed, plan);
  const verdict = verdictOf(observed);
  // Before the agent's first part goes it is written down that nothing comes back to it.
  if (verdict.is === "commit")
    return { ...waits(yes(COMMITTED, verdict.reason, verdict.message), 0), status: { rollBackUntil: undefined } };
  // Taking back is looked at first, so it waits for the agent.
  const endsAt = verdict.is === "wait" ? verdict.endsAt : undefined;
  const what = verdict.is === "wait" ? verdict.message : "The machine is to be taken back to the media agent";
  const agent = runAgent(observed, plan);
  const trouble = agent.passes
    ? ""
    : " The media agent does not serve at the moment: until it does, nothing can be taken back.";
  const message = `${what}. ${lossOf(observed)} If you want, ${DECIDE}.${trouble}`;
  const left =
    endsAt === undefined ? POLL_MS : Math.min(endsAt - observed.now, agent.passes ? LONGEST_WAIT_MS : POLL_MS);
  return {
    ...agent,
    passes: false,
    conditions: [
      ...nothingWrong(observed),
      ...(agent.conditions ?? []),
      no(COMMITTED, endsAt === undefined ? "AwaitingDecision" : "OnTrial", message),
    ],
    status: { ...agent.status, rollBackUntil: endsAt === undefined ? undefined : new Date(endsAt).toISOString() },
    againMs: Math.max(0, Math.min(left, agent.againMs ?? left)),
  };
}

/** The agent is kept: without it the machine would have no disk. */
function keepForMachine(observed: Observed, plan: Plan): Outcome {
  const targets = observed.disks.map(({ target }) => target.claimName).join(", ");
  const message = `Somebody set the machine's volumes back to the media agent, which is kept for as long as they are there. Set them to ${targets} again, which hold what the machine wrote since it was moved, or set spec.relocation.trial.decision to RollBack to go back.`;
  const agent = runAgent(observed, plan);
  return {
    ...agent,
    passes: false,
    conditions: [...(agent.conditions ?? []), no(COMMITTED, "UsesAgent", message)],
    status: { ...agent.status, rollBackUntil: undefined },
    againMs: POLL_MS,
  };
}

/** What is lost by going back, in words. */
export function lossOf(observed: Observed): string {
  const switched = onTargetSince(observed);
  if (switched === undefined) return "It never ran from its target: going back loses nothing.";
  return `Going back loses what the machine wrote since ${switched}.`;
}

/** The machine does not depend on the agent any more: what was wrong with it stops nobody. */
function nothingWrong(observed: Observed): ConditionDraft[] {
  return isTrue(conditionsBefore(observed), "Degraded")
    ? [no("Degraded", "AsExpected", "Nothing is wrong: the machine does not depend on the media agent.")]
    : [];
}
