import { bootProfile } from "../../api/boot-profile.ts";
import type { VMRestoreStatus } from "../../api/vm-restore-status.ts";
import { type Action, create, remove, removeIfThere } from "../actions.ts";
import { type ConditionDraft, conditionOf, isTrue } from "../conditions.ts";
import { JOBS, SECRETS, VIRTUAL_MACHINES, VM_RESTORES } from "../kinds.ts";
import type { Manifest } from "../runtime/objects.ts";
import { bootSetOutcome, runAgent, tellPhase } from "./agent-step.ts";
import { tellLimit } from "./bandwidth.ts";
import { cutoverBegun, goesToTarget, isSwitched, isSwitchTold, rollbackBegun } from "./cutover-state.ts";
import { awaitCutover, awaitTarget, cutOver, cutOverAgain } from "./cutover-step.ts";
import { degraded } from "./degraded.ts";
import { tellBuses } from "./disk-bus.ts";
import { holdDrains } from "./drain-step.ts";
import { tellPlan, toldPlan } from "./dry-run.ts";
import { afterRollback } from "./held-back.ts";
import { keepProfile } from "./learned-profile.ts";
import { markAgain } from "./live-marks.ts";
import { isExpired, liveMount, liveMountStatus, neverExpires } from "./live-mount.ts";
import { liveBegun, releaseInstance } from "./live-state.ts";
import { migrateLive } from "./live-step.ts";
import { awaitGuest, checkManifest, makeMachine } from "./machine-step.ts";
import { isOurs } from "./names.ts";
import { awaitNodes, isAwaitingReports, tellNodes } from "./nodes-step.ts";
import { conditionsBefore, type Observed } from "./observed.ts";
import { diskFacts, makePlan, type Plan, planSecret } from "./plan.ts";
import { checkTarget, targetProblems, targetReady } from "./preflight-step.ts";
import { removeReferences } from "./reference-step.ts";
import { relocate, removeRelocation } from "./relocation-step.ts";
import { isUndone, keptDisks, putBack, undoLoss } from "./replace-step.ts";
import { rollBack } from "./rollback.ts";
import { howToPutItsLabelBack, lostItsLabel } from "./served-claims.ts";
import { tellSharedOverlay } from "./shared-overlay.ts";
import { tellPeers } from "./sharing-step.ts";
import { findSources, isOldInspection, sourceReady } from "./source-step.ts";
import { giveStrategyBack } from "./start-again.ts";
import { acts, no, type Outcome, passed, runSteps, type Step, waits, yes } from "./step.ts";
import { tearDown } from "./teardown.ts";
import { liveOn } from "./time-to-live.ts";
import { awaitVerdict } from "./trial.ts";
import { awaitTurn, goOnWaiting, leaveQueue } from "./turn-step.ts";

/** Keeps the object until nothing depends on the media agent any more. */
export const RESTORE_FINALIZER = "vmrestore.io/teardown";
const POLL_MS = 1000;
const AGENT_GONE = yes("TornDown", "Gone", "The media agent is gone.");

/**
 * What to do for a VMRestore next. Pure: the same observation gives the same decision, whatever was decided before, so an operator
 * that dies anywhere is followed by one that goes on.
 */
export function decide(observed: Observed): Outcome {
  const { restore, plan, machine } = observed;
  const marked = markAgain(observed);
  if (marked.length > 0) return acts(marked);
  const again = cutOverAgain(observed);
  if (again !== undefined) return again;
  // That it was switched is written down first: with its instance a machine that is being deleted goes.
  const isGoing = machine?.metadata.deletionTimestamp !== undefined;
  const released = isGoing && isSwitched(observed) && !isSwitchTold(observed) ? [] : releaseInstance(observed);
  if (released.length > 0) return acts(released);
  const given = giveStrategyBack(observed);
  if (given.length > 0) return acts(given);
  if (restore.metadata.deletionTimestamp !== undefined) return decideDeletion(observed);
  const finalizers = restore.metadata.finalizers ?? [];
  if (!finalizers.includes(RESTORE_FINALIZER))
    return acts([withFinalizers(observed, [...finalizers, RESTORE_FINALIZER])]);
  if (isTrue(conditionsBefore(observed), "Completed")) return liveOn(observed);
  if (plan === undefined) return prepare(observed);
  if (isUndone(observed)) return undo(observed);
  const back = rollBack(observed, plan);
  if (back !== undefined) return back;
  if (isSwitched(observed)) return finish(observed, plan);
  if (isExpired(observed)) return discard(observed, "Expired", "The live mount expired and was discarded.");
  return goOn(observed, plan);
}

/** Until there is a plan nothing is made but an inspection Job, so bad input leaves nothing behind. */
function prepare(observed: Observed): Outcome {
  const { restore, spec, settings, inspectionJobs } = observed;
  if (observed.overlay !== undefined || observed.statefulSet !== undefined) {
    const message =
      "The Secret with the media agent's plan is gone. Put it back from a backup of the operator's namespace; nothing is changed until then.";
    return waits(no("AgentReady", "PlanLost", message), 10_000);
  }
  // The plan goes last: with it gone after cutover, everything is.
  const discarded = conditionOf(conditionsBefore(observed), "Discarded");
  if (discarded?.status === "True")
    return passed(
      AGENT_GONE,
      yes("Completed", "Discarded", observed.old === undefined ? "The machine was discarded." : discarded.message),
    );
  if (isTrue(conditionsBefore(observed), "CutOver")) return passed(AGENT_GONE, completed(observed));
  const held = toldPlan(observed, inspectionJobs) ?? goOnWaiting(observed);
  if (held !== undefined) return held;
  const source = findSources(observed);
  if (source.found === undefined) return outOfQueue(observed, source);
  // Anybody may have edited it: one that is none stands in nobody's way.
  const profile = bootProfile.safeParse(observed.profile?.spec).data;
  const planned = makePlan(spec, source.found, profile !== undefined);
  const conditions = [...(source.conditions ?? [])];
  if ("problem" in planned)
    return outOfQueue(observed, {
      passes: false,
      conditions: [...conditions, no("TargetReady", planned.reason, planned.problem)],
    });
  const target = checkTarget(observed, planned.plan);
  conditions.push(...(tellNodes(observed, planned.plan).conditions ?? []), ...tellSharedOverlay(observed));
  if (spec.dryRun) {
    // What the nodes can do is part of the plan, which is told once.
    if (isAwaitingReports(observed, planned.plan))
      return { passes: false, conditions: [...conditions, target], againMs: 1000 };
    return tellPlan(observed, {
      plan: planned.plan,
      dataBytes: source.found.reduce((sum, { found }) => sum + found.dataBytes, 0),
      conditions: [...conditions, target],
      missing: targetProblems(observed, planned.plan),
      inspectionJobs,
    });
  }
  const turn = target.status === "True" ? awaitTurn(observed) : undefined;
  if (turn !== undefined) return { ...turn, conditions: [...conditions, target, ...(turn.conditions ?? [])] };
  if (target.status !== "True")
    return outOfQueue(observed, { passes: false, conditions: [...conditions, target], againMs: 10_000 });
  const removals = inspectionJobs.map((job) => remove(JOBS, job));
  if (inspectionJobs.some((job) => isOldInspection(observed, job))) {
    const again = no("SourceReady", "Inspecting", "The backup is looked at once more: it may have changed meanwhile.");
    return { passes: false, conditions: [target, again], actions: removals };
  }
  const secret = planSecret({
    restore,
    plan: planned.plan,
    disks: planned.disks,
    profile,
    repositoryUids: source.found.map(({ repositoryUid }) => repositoryUid),
    settings,
  });
  const starting = no("AgentReady", "Starting", "The media agent is being made.");
  return {
    passes: false,
    conditions: [...conditions, target, starting],
    actions: [create(SECRETS, secret), ...removals],
  };
}

function outOfQueue(observed: Observed, outcome: Outcome): Outcome {
  const { conditions = [] } = outcome;
  const left = leaveQueue(observed, conditions);
  if (left.length === 0) return outcome;
  return { ...outcome, conditions: [...left, ...conditions], status: { ...outcome.status, queue: undefined } };
}

function goOn(observed: Observed, plan: Plan): Outcome {
  const steps: Step[] = [
    () => ({
      ...passed(
        sourceReady([plan.snapshot, ...(plan.otherSnapshots ?? [])]),
        targetReady,
        ...admitted(observed),
        ...neverExpires(observed),
      ),
      status: planStatus(observed, plan),
    }),
    (seen) => passed(degraded(seen), ...afterRollback(seen)),
    removeInspections,
    (seen) => tellNodes(seen, plan),
    tellPeers,
    (seen) => runAgent(seen, plan),
    holdDrains,
    tellPhase,
    tellBuses,
    (seen) => checkManifest(seen, plan),
    (seen) => (seen.machine === undefined ? bootSetOutcome(seen) : { ...bootSetOutcome(seen), passes: true }),
    (seen) => awaitNodes(seen, plan),
    (seen) => makeMachine(seen, plan),
    awaitGuest,
    keepProfile,
    tellLimit,
    relocate,
    (seen) => (goesToTarget(seen) ? passed() : liveMount(seen)),
    awaitCutover,
    cutOver,
  ];
  return runSteps(steps, observed);
}

/** They go with the making of the plan, unless the operator died just then. */
function removeInspections({ inspectionJobs }: Observed): Outcome {
  const actions = inspectionJobs.flatMap((job) => removeIfThere(JOBS, job));
  return actions.length === 0 ? passed() : { passes: false, actions };
}

/** What was held back before it began is under way now. */
function admitted(observed: Observed): ConditionDraft[] {
  const before = conditionOf(conditionsBefore(observed), "Admitted");
  return before?.status === "False" ? [yes("Admitted", "Admitted", "The restore is under way.")] : [];
}

/** The machine runs from its target: everything else goes, after its trial if it has one. */
function finish(observed: Observed, plan: Plan): Outcome {
  const relocated = yes(
    "Relocated",
    "Relocated",
    conditionMessage(observed, "Relocated") ?? "Every byte is on the target.",
  );
  const target = awaitTarget(observed);
  if (!target.passes) return { ...target, conditions: [relocated, ...(target.conditions ?? [])] };
  // That it is there stands in the status first: a trial is counted from then.
  if (!isTrue(conditionsBefore(observed), "CutOver"))
    return { ...target, passes: false, conditions: [relocated, ...(target.conditions ?? [])], againMs: 0 };
  const verdict = awaitVerdict(observed, plan);
  const conditions = [relocated, ...(target.conditions ?? []), ...(verdict.conditions ?? [])];
  const status = { ...target.status, ...verdict.status };
  if (!verdict.passes) return { ...verdict, conditions, status };
  const torn = tearDown(observed);
  if (torn.done)
    return {
      passes: true,
      conditions: [...conditions, ...torn.conditions, AGENT_GONE, completed(observed)],
      status,
    };
  return {
    passes: false,
    actions: torn.actions,
    conditions: [...conditions, ...torn.conditions, no("TornDown", "TearingDown", torn.message)],
    againMs: POLL_MS,
    status,
  };
}

function completed(observed: Observed) {
  const { spec } = observed;
  return yes(
    "Completed",
    "Completed",
    `VirtualMachine ${spec.virtualMachine.name} is on its target, and the media agent is gone.${keptDisks(observed)}`,
  );
}

/** Machine, then relocation, then agent. `Discarded` is written down first: from then on there is no machine to come back to. */
function discard(observed: Observed, reason: string, message: string): Outcome {
  const { restore, machine, instance } = observed;
  const before = conditionOf(conditionsBefore(observed), "Discarded");
  const isTold = before?.status === "True";
  const discarded = isTold ? yes("Discarded", before.reason, before.message) : yes("Discarded", reason, message);
  if (!isTold) return waits(discarded, 0);
  const waiting = (what: string) => no("TornDown", "TearingDown", what);
  if (machine !== undefined && isOurs(restore, machine)) {
    return {
      ...acts(removeIfThere(VIRTUAL_MACHINES, machine), discarded, waiting("The machine is being deleted.")),
      againMs: POLL_MS,
    };
  }
  if (machine === undefined && isOurs(restore, instance))
    return waits(waiting("The machine is shutting down."), POLL_MS);
  // It would be left without its disks.
  if (lostItsLabel(observed)) return waits(no("TornDown", "LabelLost", howToPutItsLabelBack(observed)), 5000);
  const place = putBack(observed);
  if (!place.passes) return { ...place, conditions: [discarded, ...(place.conditions ?? [])] };
  const gone = release(observed, () => passed(discarded, AGENT_GONE, yes("Completed", "Discarded", discarded.message)));
  return {
    ...gone,
    conditions: [...(place.conditions ?? []), ...(gone.conditions ?? [])],
    status: { ...place.status, ...gone.status },
  };
}

/** The restored machine goes, whatever had become of it, and the old one comes back. */
function undo(observed: Observed): Outcome {
  const outcome = discard(observed, "Undone", undoLoss(observed));
  if (conditionOf(conditionsBefore(observed), "CutOver") === undefined) return outcome;
  const over = no("CutOver", "Undone", "The restored machine is discarded, with its target.");
  return { ...outcome, conditions: [over, ...(outcome.conditions ?? [])] };
}

/** Takes relocation back and the agent down; what then is `done`. */
function release(observed: Observed, done: () => Outcome): Outcome {
  const relocation = removeRelocation(observed);
  if (!relocation.done)
    return {
      ...acts(
        relocation.actions,
        no("TornDown", "TearingDown", relocation.message ?? "What relocation made is being removed."),
      ),
      againMs: POLL_MS,
    };
  const beside = removeReferences(observed);
  if (beside.length > 0)
    return {
      ...acts(beside, no("TornDown", "TearingDown", "What was made for the machine is being removed.")),
      againMs: POLL_MS,
    };
  const torn = tearDown(observed);
  if (!torn.done)
    return {
      ...acts(torn.actions, ...torn.conditions, no("TornDown", "TearingDown", torn.message)),
      againMs: POLL_MS,
    };
  return done();
}

function decideDeletion(observed: Observed): Outcome {
  const { restore, spec, plan, machine, instance, inspectionJobs } = observed;
  const finalizers = restore.metadata.finalizers ?? [];
  if (!finalizers.includes(RESTORE_FINALIZER)) return passed();
  const letGo = (): Outcome =>
    acts([
      withFinalizers(
        observed,
        finalizers.filter((name) => name !== RESTORE_FINALIZER),
      ),
    ]);
  if (isTrue(conditionsBefore(observed), "Completed")) return letGo();
  if (plan === undefined) {
    if (inspectionJobs.length === 0)
      return observed.overlay === undefined && observed.statefulSet === undefined ? letGo() : prepare(observed);
    return { ...acts(inspectionJobs.flatMap((job) => removeIfThere(JOBS, job))), againMs: POLL_MS };
  }
  if (isUndone(observed)) {
    const undone = undo(observed);
    return undone.passes ? letGo() : undone;
  }
  // A machine halted for cutover, or switched already, is brought to its end first.
  const back = rollbackBegun(observed) ? rollBack(observed, plan) : undefined;
  if (back !== undefined) return back;
  if (isSwitched(observed)) return finish(observed, plan);
  if (cutoverBegun(observed)) return goOn(observed, plan);
  const isDiscarded = spec.deletionPolicy === "Discard" || isTrue(conditionsBefore(observed), "Discarded");
  if (liveBegun(observed) && !isDiscarded) return leaveLive(observed, plan);
  if (isDiscarded) {
    const outcome = discard(observed, "Deleted", "The VMRestore was deleted, and the machine with it.");
    return outcome.passes ? letGo() : outcome;
  }
  if (isOurs(restore, machine) || (machine === undefined && isOurs(restore, instance))) {
    const relocation = removeRelocation(observed);
    const message = `VirtualMachine ${spec.virtualMachine.name} runs from the media agent, which stays until the machine is deleted. To discard the machine, set spec.deletionPolicy to Discard.`;
    const depends = no("TornDown", "MachineDependsOnAgent", message);
    if (!relocation.done) return { ...acts(relocation.actions, depends), againMs: POLL_MS };
    return keepServing(observed, plan, depends);
  }
  if (lostItsLabel(observed))
    return keepServing(observed, plan, no("TornDown", "LabelLost", howToPutItsLabelBack(observed)));
  const place = putBack(observed);
  return place.passes ? release(observed, letGo) : place;
}

/** A live migration is called off, or brought to its end where the machine has arrived, before anything else is done. */
function leaveLive(observed: Observed, plan: Plan): Outcome {
  return runSteps([...serving(plan), migrateLive], observed);
}

function serving(plan: Plan): Step[] {
  return [(seen) => passed(degraded(seen)), tellPeers, (seen) => runAgent(seen, plan), holdDrains, tellPhase];
}

/** For as long as the machine needs it, the agent is cared for as before. */
function keepServing(observed: Observed, plan: Plan, depends: ConditionDraft): Outcome {
  const steps = serving(plan);
  if (isOurs(observed.restore, observed.machine)) steps.push((seen) => makeMachine(seen, plan));
  const kept = runSteps(steps, observed);
  return {
    ...kept,
    passes: false,
    conditions: [...(kept.conditions ?? []), depends],
    againMs: Math.min(kept.againMs ?? 5000, 5000),
  };
}

function planStatus(observed: Observed, plan: Plan): Partial<VMRestoreStatus> {
  const before = observed.restore.status?.disks;
  return {
    snapshot: plan.snapshot,
    // What was told before it began is no longer a plan.
    plan: undefined,
    queue: undefined,
    ...liveMountStatus(observed),
    disks: diskFacts(plan).map((disk) => ({ ...before?.find(({ name }) => name === disk.name), ...disk })),
  };
}

function conditionMessage(observed: Observed, type: string): string | undefined {
  return conditionsBefore(observed).find((condition) => condition.type === type && condition.status === "True")
    ?.message;
}

function withFinalizers({ restore }: Observed, finalizers: string[]): Action {
  const object = { ...restore, metadata: { ...restore.metadata, finalizers } } as unknown as Manifest;
  return { do: "replace", type: VM_RESTORES, object };
}
