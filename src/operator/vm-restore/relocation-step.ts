import type { RelocationProgress } from "../../api/agent-control.ts";
import { formatBytes } from "../../base/format-bytes.ts";
import { type Action, create, remove, removeIfThere } from "../actions.ts";
import { sentence } from "../backup-repository/decide.ts";
import { type ConditionDraft, conditionOf } from "../conditions.ts";
import { podTrouble } from "../inspection-job.ts";
import { CLAIMS, JOBS, type Job, SECRETS } from "../kinds.ts";
import { awaitBegin } from "./begin.ts";
import { copyAnew, dirtyBytes, hasProgress, progressOf } from "./copy-progress.ts";
import { cutoverBegun, goesToTarget, isHeldBack } from "./cutover-state.ts";
import { heldBack } from "./held-back.ts";
import { readKeys } from "./keys.ts";
import { givenUp, LIVE_ANNOTATIONS, liveBegun } from "./live-state.ts";
import { beginLive, migrateLive } from "./live-step.ts";
import { isOurs } from "./names.ts";
import { conditionsBefore, type Observed } from "./observed.ts";
import { isOwnTarget } from "./own-claims.ts";
import { pauseRelocation, withoutCutover, withoutJob } from "./pause.ts";
import { hasEnded } from "./pods.ts";
import { relocationJob, relocationSecret, targetClaim } from "./relocation-objects.ts";
import { claimPairs, claimsOf, refersToTarget, volumesOf } from "./served-claims.ts";
import { acts, no, type Outcome, passed, waits, yes } from "./step.ts";
import { type Choice, chooseStrategy } from "./strategy.ts";
import { targetProblem } from "./target-check.ts";

const POLL_MS = 2000;
const JOB_RETRY_MS = 10_000;

/** Whether copying has begun and was not taken back. */
export function relocationBegun(observed: Observed): boolean {
  const { restore, disks, job } = observed;
  if (!goesToTarget(observed)) return false;
  return job !== undefined || disks.some((disk) => isOwnTarget(restore, disk));
}

/** Copies the disks until only what the guest writes at this moment is missing at the target. */
export function relocate(observed: Observed): Outcome {
  if (liveBegun(observed)) {
    const { strategy, reason } = chooseStrategy(observed);
    return { ...migrateLive(observed), status: { strategy, strategyReason: reason } };
  }
  if (!goesToTarget(observed)) return takeBack(observed);
  if (isHeldBack(observed)) return holdBack(observed);
  const waiting = relocationBegun(observed) ? undefined : awaitBegin(observed);
  if (waiting !== undefined) return waiting;
  if (observed.spec.relocation.paused && !cutoverBegun(observed)) {
    const progress = observed.disks.map(({ name }) => progressOf(observed, name));
    return pauseRelocation(observed, copyMessage(observed, progress));
  }
  const choice = chooseStrategy(observed);
  const outcome = follow(observed, choice);
  const told = choice.condition === undefined ? [] : [choice.condition];
  return {
    ...outcome,
    conditions: [...told, ...(outcome.conditions ?? [])],
    status: { strategy: choice.strategy, strategyReason: choice.reason, ...outcome.status },
  };
}

function holdBack(observed: Observed): Outcome {
  const held = withoutJob(observed, heldBack(observed));
  const before = conditionOf(conditionsBefore(observed), "CutOver")?.reason ?? "";
  // How it came back stands there already.
  const cutover = ["RollingBack", "RolledBack"].includes(before)
    ? []
    : withoutCutover(observed, "Cancelled", "The machine stays on the media agent.");
  return { ...held, conditions: [...cutover, ...(held.conditions ?? [])] };
}

function follow(observed: Observed, choice: Choice): Outcome {
  if (choice.strategy === undefined) return waits(no("Relocated", "Choosing", choice.reason), POLL_MS);
  return choice.strategy === "LiveMigration" ? prepareLive(observed, choice) : copyDisks(observed, choice);
}

/** Everything is checked, a copy that was begun is gone and the targets stand before the machine is touched. */
function prepareLive(observed: Observed, { condition }: Choice): Outcome {
  const { job, jobPods, jobSecret, machine } = observed;
  const tired = givenUp(observed);
  const otherwise = "set spec.relocation.strategy to Copy, which restarts the machine once at cutover";
  if (tired !== undefined) {
    const message = `${sentence(tired)} To try again, remove the annotation ${LIVE_ANNOTATIONS.givenUp} from VirtualMachine ${machine?.metadata.name}; or ${otherwise}.`;
    return waits(no("Relocated", "LiveMigrationGivenUp", message), 5000);
  }
  if (condition?.status === "False") {
    const message = `${condition.message} It begins when that is mended; or ${otherwise}.`;
    return waits(no("Relocated", "LiveMigrationNotPossible", message), 5000);
  }
  const preparing = preparingTargets("The machine is to be migrated live.");
  if (job !== undefined || jobPods.length > 0) {
    return { ...acts(removeIfThere(JOBS, job), preparing), againMs: 500 };
  }
  if (jobSecret !== undefined) return acts([remove(SECRETS, jobSecret)], preparing);
  return prepareClaims(observed, preparing) ?? beginLive(observed);
}

function copyDisks(observed: Observed, choice: Choice): Outcome {
  const preparation = prepareTargets(observed, choice);
  if (preparation !== undefined) return preparation;
  const progress = observed.disks.map(({ name }) => progressOf(observed, name));
  const bad = observed.disks.filter((_, index) => progress[index]?.state === "VerifyFailed");
  if (bad.length > 0) {
    const claims = bad.map(({ target }) => target.claimName).join(", ");
    const message = `The target returns other bytes than were written to it. The machine's data is safe in the media agent. Look into the storage, then delete claim ${claims}: it is made and written anew.`;
    return waits(no("Relocated", "VerificationFailed", message), POLL_MS);
  }
  if (progress.every((disk) => disk?.state === "Done")) {
    const verified = progress.every((disk) => disk?.checksum !== undefined)
      ? ", and their checksums were compared"
      : "";
    return passed(yes("Relocated", "Relocated", `Every byte is on the target${verified}.`));
  }
  return runJob(observed, progress);
}

/** Whether the machine writes to a target, or would as soon as it starts: nobody else may. One that is halted for cutover does not start. */
function isTargetInUse(observed: Observed): boolean {
  return observed.targetPods.some((pod) => !hasEnded(pod)) || (refersToTarget(observed) && !cutoverBegun(observed));
}

function targetInUse(observed: Observed): ConditionDraft {
  const pairs = claimPairs(observed);
  const list = (claims: string[]): string => claims.join(", ");
  const message = `The machine uses its target (${list(pairs.map(({ target }) => target))}), though it was not switched there: nothing is copied for as long as it does. What is on the target and what is in the media agent may differ, and the next copy replaces what is on the target. To run it from the media agent, stop it and set its volumes to ${list(pairs.map(({ served }) => served))}.`;
  return no("Relocated", "TargetInUse", message);
}

/** Claims and certificate; undefined once they stand and the agent's progress is about these very claims. */
function prepareTargets(observed: Observed, { reason }: Choice): Outcome | undefined {
  const preparing = preparingTargets(reason);
  if (observed.inTheWay !== undefined) {
    const { kind, metadata } = observed.inTheWay;
    const message = `There is a ${kind} ${metadata.name} that this restore did not make, and it is not touched. Delete it.`;
    return waits(no("Relocated", `${kind}Exists`, message), 10_000);
  }
  const claims = prepareClaims(observed, preparing);
  if (claims !== undefined) return claims;
  if (isTargetInUse(observed)) return withoutJob(observed, targetInUse(observed));
  const fresh = bindProgress(observed, preparing);
  if (fresh !== undefined) return fresh;
  if (observed.jobSecret === undefined && observed.keys !== undefined) {
    return acts([create(SECRETS, relocationSecret(observed.restore, readKeys(observed.keys)))], preparing);
  }
  return undefined;
}

/** Undefined once every target claim stands. */
function prepareClaims(observed: Observed, preparing: ConditionDraft): Outcome | undefined {
  const { restore, disks, job } = observed;
  const problem = targetProblem(observed);
  if (problem !== undefined) return waits(no("Relocated", problem.reason, problem.message), 10_000);
  if (disks.some(({ targetClaim: claim }) => claim?.metadata.deletionTimestamp !== undefined)) {
    // The Job's pod holds a claim that somebody deleted.
    return { ...acts(removeIfThere(JOBS, job), preparing), againMs: 1000 };
  }
  const claims = disks.flatMap(({ target, targetClaim: claim }) =>
    claim === undefined && "bytes" in target.size
      ? [create(CLAIMS, targetClaim(restore, target, target.size.bytes))]
      : [],
  );
  return claims.length > 0 ? acts(claims, preparing) : undefined;
}

function preparingTargets(reason: string): ConditionDraft {
  return no("Relocated", "Preparing", `The target claims are being made. ${reason}`);
}

/**
 * The agent remembers how far it copied, not where to. A claim that was deleted and made anew is empty, so the progress is
 * taken back first, then the claim's uid is written down, and only then a Job is made.
 */
function bindProgress(observed: Observed, preparing: ConditionDraft): Outcome | undefined {
  const { restore, disks, job, jobPods } = observed;
  const recorded = new Map(restore.status?.targetClaims?.map(({ disk, uid }) => [disk, uid]));
  const changed = disks.filter(({ name, targetClaim: claim }) => recorded.get(name) !== claim?.metadata.uid);
  if (changed.length === 0) return undefined;
  if (job !== undefined || jobPods.length > 0) {
    return { ...acts(removeIfThere(JOBS, job), preparing), againMs: 500 };
  }
  const stale = changed.filter(({ name }) => hasProgress(progressOf(observed, name)));
  if (stale.length > 0)
    return acts(
      stale.map(({ name }) => copyAnew(name)),
      preparing,
    );
  const targetClaims = disks.map(({ name, target, targetClaim: claim }) => ({
    disk: name,
    name: target.claimName,
    uid: claim?.metadata.uid ?? "",
  }));
  return { ...waits(preparing, 0), status: { targetClaims } };
}

function runJob(observed: Observed, progress: readonly (RelocationProgress | undefined)[]): Outcome {
  const { restore, spec, settings, machine, job, jobPods, service, disks } = observed;
  const copying = no("Relocated", "Copying", copyMessage(observed, progress));
  if (job === undefined) {
    if (jobPods.length > 0) return waits(copying, 500);
    const targets = disks.map(({ target }) => target);
    const address = service?.spec?.clusterIP ?? "";
    return acts([create(JOBS, relocationJob({ restore, spec, targets, machine, address, settings }))], copying);
  }
  if (job.metadata.deletionTimestamp !== undefined) return waits(copying, 500);
  const ended = jobEnd(job);
  if (ended !== undefined) return replaceJob(observed, job, ended);
  const settled = progress.every(
    (disk) => disk !== undefined && ["Converged", "FinalPass", "Verifying", "Done"].includes(disk.state),
  );
  if (settled)
    return {
      ...passed(
        no(
          "Relocated",
          "Converged",
          `All is copied but what the machine writes at this moment: ${formatBytes(dirtyBytes(observed))}.`,
        ),
      ),
      againMs: POLL_MS,
    };
  const failure = observed.jobFailure === undefined ? undefined : `it failed and tries again: ${observed.jobFailure}`;
  const trouble = podTrouble(jobPods) ?? (progress.some((disk) => (disk?.rate ?? 0) > 0) ? undefined : failure);
  return waits(
    trouble === undefined ? copying : no("Relocated", "Copying", sentence(`The relocation Job waits: ${trouble}`)),
    POLL_MS,
  );
}

/** How far it is, in bytes that are durable at the target. */
function copyMessage(observed: Observed, progress: readonly (RelocationProgress | undefined)[]): string {
  const known = progress.filter((disk) => disk !== undefined);
  const total = known.reduce((sum, { bytesTotal }) => sum + bytesTotal, 0);
  if (known.length < progress.length || total === 0) return "Nothing is copied yet.";
  const durable = known.reduce((sum, { bytesDurable }) => sum + bytesDurable, 0);
  const dirty = dirtyBytes(observed);
  const again = dirty === 0 ? "" : `; ${formatBytes(dirty)} that the machine wrote since are copied again`;
  return `${formatBytes(durable)} of ${formatBytes(total)} are durable at the target${again}.`;
}

/** A Job that ended before everything was done is replaced after a while; the agent knows how far it got. */
function replaceJob(observed: Observed, job: Job, ended: { message: string; at: number }): Outcome {
  const condition = no(
    "Relocated",
    "JobFailed",
    sentence(`The relocation Job ended early and is started again: ${observed.jobFailure ?? ended.message}`),
  );
  const left = ended.at + JOB_RETRY_MS - observed.now;
  return left > 0 ? waits(condition, left) : acts([remove(JOBS, job)], condition);
}

function jobEnd(job: Job): { message: string; at: number } | undefined {
  const end = job.status?.conditions?.find(
    ({ type, status }) => ["Failed", "Complete"].includes(type) && status === "True",
  );
  if (end === undefined) return undefined;
  const at = Date.parse(end.lastTransitionTime ?? "");
  return { message: end.message ?? end.reason ?? end.type, at: Number.isNaN(at) ? 0 : at };
}

/** A live mount; or relocation was called off before cutover: what it made goes, the machine runs on from the agent. */
function takeBack(observed: Observed): Outcome {
  const { actions, done, message: held } = removeRelocation(observed);
  // Other claims get other bytes: nothing of what was copied is believed later.
  if (done) return { ...passed(), status: { targetClaims: undefined } };
  if (held !== undefined) return waits(targetInUse(observed), POLL_MS);
  const message = "Relocation was called off; the machine runs on from the media agent.";
  const cutover = withoutCutover(observed, "Cancelled", "Relocation was called off.");
  return { ...acts(actions, ...cutover, no("Relocated", "Cancelled", message)), againMs: 1000 };
}

/** Removes the Job, then its Secret and the target claims. A claim that the machine refers to, or runs from, is never removed, nor one whose label people took off. */
export function removeRelocation(observed: Observed): { actions: Action[]; done: boolean; message?: string } {
  const { restore, job, jobPods, jobSecret, disks, machine } = observed;
  if (job !== undefined || jobPods.length > 0) {
    return { actions: removeIfThere(JOBS, job), done: false };
  }
  const used = new Set(claimsOf(volumesOf(machine)));
  const claims = disks.flatMap(({ targetClaim: claim }) =>
    claim !== undefined && isOurs(restore, claim) && !used.has(claim.metadata.name) ? [claim] : [],
  );
  const [pod] = observed.targetPods.filter((each) => !hasEnded(each));
  if (claims.length > 0 && pod !== undefined) {
    const message = `A machine runs in pod ${pod.metadata.name} from a target that relocation made: it is not removed under it.`;
    return { actions: [], done: false, message };
  }
  const left = [
    ...claims.map((claim) => [CLAIMS, claim] as const),
    ...(jobSecret === undefined ? [] : [[SECRETS, jobSecret] as const]),
  ];
  return {
    actions: left.flatMap(([type, object]) => removeIfThere(type, object)),
    done: left.length === 0,
  };
}
