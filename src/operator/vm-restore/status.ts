import type { Condition } from "../../api/common.ts";
import { formatDuration } from "../../api/duration.ts";
import type { RestorePhase, VMRestoreStatus } from "../../api/vm-restore-status.ts";
import { type ConditionDraft, conditionOf, isTrue, mergeConditions } from "../conditions.ts";
import { lastMoveOf } from "./agent-move.ts";
import { MOVABLE } from "./agent-place.ts";
import { inTime } from "./budgets.ts";
import { goesToTarget, isSwitched } from "./cutover-state.ts";
import { failureFacts } from "./failure-facts.ts";
import { liveBegun } from "./live-state.ts";
import type { Observed } from "./observed.ts";
import { diskFacts } from "./plan.ts";
import { OVERLAY_FENCED } from "./shared-overlay.ts";
import type { Outcome } from "./step.ts";

/** Reasons that nothing but people get a restore out of. */
const FAILED_REASONS = [
  "LiveMigrationUnclear",
  "VerificationFailed",
  "VirtualMachineDeleted",
  "PlanLost",
  "OverlayLost",
  "ManifestLost",
];
/** Facts that nobody waits for. */
const NOT_WAITED_FOR = ["Degraded", "InTime", "LiveMigrationPossible", MOVABLE, OVERLAY_FENCED];
/** Why a restore has not begun, as steps of the timeline. */
const HELD_UP = ["Queued", "DryRun"];
/** What once was. */
const PAST_REASONS = ["RolledBack", "RelocatedAnew"];
/** States in which bytes go to the target. */
const MOVING = ["FirstPass", "Converging", "FinalPass"];
/** An end that is further away is no estimate, and past the year 9999 no time that Kubernetes takes. */
const FARTHEST_MS = 366 * 24 * 3_600_000;
const ALL_WELL: ConditionDraft = {
  type: "Degraded",
  status: "False",
  reason: "AsExpected",
  message: "Nothing is wrong.",
};
const CUTTING_OVER = ["Halting", "Sealing", "FinalPass", "Switching", "Starting"];
/** What is waited for between one step's end and the next one's beginning. */
const IN_BETWEEN: Readonly<Record<RestorePhase, string>> = {
  Pending: "The backup is about to be looked at.",
  Preparing: "The media agent is about to be made.",
  Staging: "What the machine will read first is about to be staged.",
  Launching: "The machine is about to be made.",
  Running: "The guest is ready, and its disks are about to be copied.",
  Relocating: "The disks are being copied.",
  CuttingOver: "The machine is being moved to its target.",
  OnTrial: "The machine is on trial on its target.",
  RollingBack: "The machine is being taken back to the media agent.",
  Completed: "The restore is over.",
  Failed: "The restore cannot go on.",
};
/** The phase is nothing but a summary of the conditions, latest first. */
export function phaseOf(conditions: readonly Condition[]): RestorePhase {
  const reason = (type: string) => conditionOf(conditions, type)?.reason ?? "";
  if (isTrue(conditions, "Completed")) return "Completed";
  if (conditions.some((condition) => condition.status === "False" && FAILED_REASONS.includes(condition.reason)))
    return "Failed";
  if (conditionOf(conditions, "Admitted")?.status === "False") return "Pending";
  if (reason("CutOver") === "RollingBack") return "RollingBack";
  if (isTrue(conditions, "CutOver") && ["OnTrial", "AwaitingDecision", "UsesAgent"].includes(reason("Committed")))
    return "OnTrial";
  if (isTrue(conditions, "CutOver") || CUTTING_OVER.includes(reason("CutOver"))) return "CuttingOver";
  if (!["", "AwaitingBegin", "Choosing", "Cancelled", "RolledBack", "RollBackDecided"].includes(reason("Relocated")))
    return "Relocating";
  if (isTrue(conditions, "GuestReady")) return "Running";
  if (isTrue(conditions, "BootSetStaged")) return "Launching";
  if (isTrue(conditions, "AgentReady")) return "Staging";
  if (isTrue(conditions, "TargetReady") && isTrue(conditions, "SourceReady")) return "Preparing";
  return "Pending";
}

/** When each step began and ended; one that comes back tells when it did. */
export function advanceTimeline(
  before: NonNullable<VMRestoreStatus["timeline"]>,
  phase: string,
  now: number,
  created: string | undefined,
): NonNullable<VMRestoreStatus["timeline"]> {
  const time = new Date(now).toISOString();
  const open = before.find(({ finishedAt }) => finishedAt === undefined);
  if (open?.step === phase) return before;
  const closed = before
    .filter(({ step }) => step !== phase)
    .map((step) => (step.finishedAt === undefined ? { ...step, finishedAt: time } : step));
  if (phase === "Completed") return closed;
  const again = before.find(({ step }) => step === phase);
  if (again !== undefined) return [...closed, { step: phase, startedAt: again.startedAt, resumedAt: time }];
  return [...closed, { step: phase, startedAt: before.length === 0 ? (created ?? time) : time }];
}

/** The step of the timeline: the phase, and what holds a restore up before it begins. */
function stepOf(conditions: readonly Condition[], phase: RestorePhase): string {
  const admitted = conditionOf(conditions, "Admitted");
  return admitted?.status === "False" && HELD_UP.includes(admitted.reason) ? admitted.reason : phase;
}

/** The status after a decision. What was not decided anew stays as it was. */
export function statusAfter(observed: Observed, outcome: Outcome): VMRestoreStatus {
  const { restore, now } = observed;
  const before = restore.status ?? {};
  const generation = restore.metadata.generation ?? 0;
  const drafts = withCleared(observed, outcome);
  const decided = mergeConditions(before.conditions ?? [], drafts, { now, generation });
  const phase = phaseOf(decided);
  const created = restore.metadata.creationTimestamp;
  const timeline = advanceTimeline(before.timeline ?? [], stepOf(decided, phase), now, created);
  const waiting = waitingFor(decided, drafts, phase);
  const waits = waitsSince(before.waiting, waiting, now);
  const late = inTime({ spec: observed.spec, before: decided, timeline, waitsFor: waiting.message, waits, now });
  const conditions = mergeConditions(decided, late, { now, generation });
  const becameReady = isTrue(conditions, "GuestReady") && before.timeToGuestReady === undefined;
  return {
    ...before,
    ...outcome.status,
    // What the agent says now is newer than what a decision carried over.
    ...observedOfAgent(observed),
    ...mergedAgent(observed, outcome),
    observedGeneration: generation,
    phase,
    message: phase === "Failed" ? `${waiting.message} ${failureFacts(observed)}` : waiting.message,
    waiting: waits,
    conditions,
    timeline,
    ...(becameReady && created !== undefined ? { timeToGuestReady: formatDuration(now - Date.parse(created)) } : {}),
  };
}

/** Since when it waits for the same thing, however far that has come meanwhile. */
function waitsSince(before: VMRestoreStatus["waiting"], { on }: Waiting, now: number): VMRestoreStatus["waiting"] {
  if (on === undefined) return undefined;
  if (before?.condition === on.type && before.reason === on.reason) return before;
  return { condition: on.type, reason: on.reason, since: new Date(now).toISOString() };
}

/** Clears what the last reconcile could not do, once one could. */
function withCleared({ restore }: Observed, outcome: Outcome): NonNullable<Outcome["conditions"]> {
  const drafts = [...(outcome.conditions ?? [])];
  const before = restore.status?.conditions;
  const isDrafted = (type: string) => drafts.some((draft) => draft.type === type);
  if (conditionOf(before, "SpecValid")?.status === "False" && !isDrafted("SpecValid")) {
    drafts.push({ type: "SpecValid", status: "True", reason: "Valid", message: "The spec can be followed." });
  }
  if (conditionOf(before, "Degraded")?.reason === "ActionFailed" && !isDrafted("Degraded")) {
    drafts.push(ALL_WELL);
  }
  // What was wrong with the media agent is over with it.
  const isOver = drafts.some(({ type, status }) => type === "Completed" && status === "True");
  if (isOver && conditionOf(before, "Degraded")?.status === "True" && !isDrafted("Degraded")) drafts.push(ALL_WELL);
  return drafts;
}

interface Waiting {
  readonly message: string;
  /** The condition that is waited for, if one is. */
  readonly on: Pick<ConditionDraft, "type" | "reason"> | undefined;
}

/** What it waits for: the last thing decided that is not true yet, or what people should look at first. */
function waitingFor(conditions: readonly Condition[], drafts: readonly ConditionDraft[], phase: RestorePhase): Waiting {
  const completed = conditionOf(conditions, "Completed");
  if (completed?.status === "True") return { message: completed.message, on: undefined };
  const degraded = conditionOf(conditions, "Degraded");
  if (degraded?.status === "True" && degraded.reason !== "NotPinned")
    return { message: degraded.message, on: degraded };
  const isWaitedFor = ({ type, status }: ConditionDraft) => status === "False" && !NOT_WAITED_FOR.includes(type);
  // A step that only acts says nothing of what comes after it: then what was waited for before still is.
  const waiting =
    drafts.findLast(isWaitedFor) ??
    conditions.findLast((one) => isWaitedFor(one) && !PAST_REASONS.includes(one.reason));
  if (waiting !== undefined) return { message: waiting.message, on: waiting };
  const ended = drafts.findLast(({ type }) => type === "Expired" || type === "Discarded");
  return { message: ended?.message ?? IN_BETWEEN[phase], on: undefined };
}

function mergedAgent({ restore, agent }: Observed, { status }: Outcome): Partial<VMRestoreStatus> {
  const base = status?.mediaAgent ?? restore.status?.mediaAgent;
  if (base === undefined || agent.status === undefined) return {};
  const { repository, move, peers } = agent.status;
  const taken = peers?.bytesTaken ?? 0;
  const { bytesFetched, pinned } = repository;
  return {
    mediaAgent: {
      ...base,
      bytesFetched,
      bytesFromPeers: taken === 0 ? undefined : taken,
      pinned,
      ...(move === undefined ? {} : { lastMove: lastMoveOf(move) }),
    },
  };
}

function observedOfAgent(observed: Observed): Partial<VMRestoreStatus> {
  const { agent, plan, restore } = observed;
  const isLive = liveBegun(observed);
  const hasMoved = restore.status?.strategy === "LiveMigration" && isSwitched(observed);
  const isCopied = goesToTarget(observed) && !isLive && !hasMoved;
  const status = agent.status;
  const before = restore.status?.relocation;
  // What was measured before the agent fell silent is no measure of what is now.
  if (status === undefined && before !== undefined) return { relocation: { percent: before.percent } };
  if (status === undefined || plan === undefined) return {};
  const { bootSet } = status;
  const disks = diskFacts(plan).map((disk) => {
    const seen = status.disks.find(({ name }) => name === disk.name);
    if (seen === undefined) return disk;
    // The agent remembers a copy that was called off.
    const copy = isCopied ? seen.relocation : undefined;
    return {
      ...disk,
      bytesStaged: seen.bootSetStaged,
      ...(isLive ? { bytesTotal: disk.size } : {}),
      ...(isLive && seen.copiedUntil !== undefined ? { bytesRead: seen.copiedUntil } : {}),
      ...(hasMoved ? { bytesTotal: disk.size, bytesRelocated: disk.size } : {}),
      ...(copy === undefined
        ? {}
        : { bytesTotal: copy.bytesTotal, bytesRelocated: copy.bytesDurable, bytesDirty: seen.dirtyBytes }),
    };
  });
  const copies = status.disks.flatMap(({ relocation, dirtyBytes }) =>
    relocation === undefined ? [] : [{ ...relocation, dirtyBytes }],
  );
  return {
    disks,
    bootSet: {
      source: bootSet.source,
      bytes: bootSet.bytes,
      bytesStaged: bootSet.staged,
      ...(bootSet.guestReads === 0 ? {} : { hitRatio: (bootSet.guestHits / bootSet.guestReads).toFixed(2) }),
    },
    relocation: hasMoved
      ? { percent: 100 }
      : isLive
        ? liveProgress(observed, status.disks)
        : isCopied
          ? copyProgress(observed, copies, plan.disks.length)
          : undefined,
  };
}

type Copy = Parameters<typeof relocationOf>[0][number];

/** Where nothing was copied, what a live migration that was taken back had read is no progress either. */
function copyProgress(observed: Observed, copies: readonly Copy[], disks: number): VMRestoreStatus["relocation"] {
  if (copies.length === 0) return undefined;
  return relocationOf(copies, observed.now, disks, observed.jobPods.length > 0) ?? observed.restore.status?.relocation;
}

/**
 * What a live migration has read, in percent. All of it counts only once the machine has moved. Undefined where none of its reads was told
 * from the guest's yet: a short copy may be over before that (decision 0018), and 0 percent would be as wrong as any other number.
 */
function liveProgress(
  { agent, now }: Observed,
  disks: readonly { readonly size: number; readonly copiedUntil?: number | undefined }[],
): VMRestoreStatus["relocation"] {
  const total = disks.reduce((sum, { size }) => sum + size, 0);
  if (total === 0 || disks.every(({ copiedUntil }) => copiedUntil === undefined)) return undefined;
  const read = disks.reduce((sum, { copiedUntil = 0 }) => sum + copiedUntil, 0);
  return {
    percent: Math.min(99, Math.floor((100 * read) / total)),
    // When KubeVirt has the machine moved after the last byte, no rate tells.
    ...(read < total ? measured(agent.copyRate ?? 0, total - read, now) : {}),
  };
}

/** @param rate bytes a second; none is measured where it is 0 */
function measured(rate: number, left: number, now: number) {
  if (rate <= 0) return {};
  const leftMs = (1000 * left) / rate;
  const end = leftMs > FARTHEST_MS ? undefined : new Date(now + leftMs).toISOString().replace(/\.\d+/, "");
  return { bytesPerSecond: Math.round(rate), ...(end === undefined ? {} : { estimatedEnd: end }) };
}

/** Durable bytes only, and an end only while a rate is measured: 100 percent means that every disk is done. */
function relocationOf(
  copies: readonly { bytesTotal: number; bytesDurable: number; rate: number; state: string; dirtyBytes: number }[],
  now: number,
  disks: number,
  isRunning: boolean,
): VMRestoreStatus["relocation"] {
  if (copies.length === 0 || copies.length < disks) return undefined;
  const sum = (pick: (copy: (typeof copies)[number]) => number) =>
    copies.reduce((total, copy) => total + pick(copy), 0);
  const total = sum(({ bytesTotal }) => bytesTotal);
  const durable = sum(({ bytesDurable }) => Math.max(0, bytesDurable));
  const rate = sum((copy) => copy.rate);
  const isDone = copies.every(({ state }) => state === "Done");
  const left = Math.max(0, total - durable) + sum(({ dirtyBytes }) => dirtyBytes);
  // Once nothing is left but what the machine writes at this moment, or a comparison, no rate tells when that ends.
  // What the agent was told last by a Job that is gone is no measure of anything.
  const isMoving = isRunning && copies.some(({ state }) => MOVING.includes(state));
  const percent = isDone ? 100 : Math.min(99, total === 0 ? 0 : Math.floor((100 * durable) / total));
  return { percent, ...measured(isMoving ? rate : 0, left, now) };
}
