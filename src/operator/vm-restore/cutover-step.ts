import { formatDuration, parseDuration } from "../../api/duration.ts";
import { formatBytes } from "../../base/format-bytes.ts";
import { type Action, removeIfThere } from "../actions.ts";
import { conditionOf, isTrue } from "../conditions.ts";
import { JOBS, type VirtualMachine } from "../kinds.ts";
import { dirtyBytes, diskStatus, progressOf } from "./copy-progress.ts";
import {
  CUTOVER_ANNOTATIONS,
  cutoverBegun,
  isSwitched,
  isSwitchForetold,
  onTargetSince,
  pinOf,
  rollbackBegun,
  SWITCHING,
} from "./cutover-state.ts";
import { isGuestReady } from "./guest.ts";
import { launcherTrouble } from "./launcher-trouble.ts";
import { liveBegun } from "./live-state.ts";
import { templateOn, updateMachine } from "./machine-update.ts";
import { isOurs } from "./names.ts";
import { conditionsBefore, type Observed } from "./observed.ts";
import { EPOCH } from "./plan.ts";
import { claimsTowards, lostItsLabel, refersToServed, refersToTarget } from "./served-claims.ts";
import { haltMarks, strategyAfterwards, strategyToGoOn, whyItStaysHalted } from "./start-again.ts";
import { acts, no, type Outcome, passed, waits, yes } from "./step.ts";

const POLL_MS = 500;

/** May the machine be halted now? */
export function awaitCutover(observed: Observed): Outcome {
  const { spec, now } = observed;
  if (cutoverBegun(observed)) return passed();
  const { when, at } = spec.relocation.cutover;
  if (when === "Automatic") return passed();
  if (when === "Manual") {
    return waits(
      no(
        "CutOver",
        "AwaitingApproval",
        "Cutover restarts the machine and waits for you: set spec.relocation.cutover.when to Automatic.",
      ),
      2000,
    );
  }
  const left = Date.parse(at ?? "") - now;
  if (left <= 0) return passed();
  return waits(no("CutOver", "AwaitingTime", `Cutover restarts the machine at ${at}.`), Math.min(left, 2000));
}

/** Halted → nothing mounts the disks → sealed → last pass → the Job gone → switched. Each is seen before the next is done. */
export function cutOver(observed: Observed): Outcome {
  const { machine, instance, mountingPods, disks, job, jobPods } = observed;
  if (machine === undefined) return waits(no("CutOver", "Halting", "The machine is gone."));
  const pod = instance === undefined ? mountingPods[0] : undefined;
  const halting = no(
    "CutOver",
    "Halting",
    pod === undefined ? "The machine is being shut down." : `Pod ${pod.metadata.name} still has a disk open.`,
  );
  if (!cutoverBegun(observed)) return acts([halt(observed, machine)], halting);
  // Somebody started it meanwhile.
  if (machine.spec?.runStrategy !== "Halted") return acts([haltAgain(machine)], halting);
  const unsealed = disks.filter(({ name }) => diskStatus(observed, name)?.sealed !== true);
  if (unsealed.length > 0) {
    if (instance !== undefined || mountingPods.length > 0) return waits(halting, POLL_MS);
    const seals = unsealed.map(
      ({ name }): Action => ({ do: "agent", what: `seal ${name}`, call: (agent) => agent.seal(name, EPOCH) }),
    );
    return acts(
      seals,
      no("CutOver", "Sealing", "The disks are being sealed: nothing can be written to them any more."),
    );
  }
  if (disks.some(({ name }) => progressOf(observed, name)?.state !== "Done")) {
    return waits(no("CutOver", "FinalPass", whatRemains(observed)), POLL_MS);
  }
  const switching = no("CutOver", SWITCHING, "The machine's disks are being switched to the target.");
  if (job !== undefined || jobPods.length > 0) {
    return { ...acts(removeIfThere(JOBS, job), switching), againMs: POLL_MS };
  }
  if (instance !== undefined || mountingPods.length > 0) return waits(halting, POLL_MS);
  // It is written down first: the machine may be deleted, or lose its marks, before anybody saw that it was switched.
  if (!isSwitchForetold(observed)) return waits(switching, 0);
  return acts([switchDisks(observed, machine)], switching);
}

/**
 * A machine whose disks are sealed, and that bears no mark which says why, lost those of its cutover: it cannot write anything. The seal outlasts
 * the marks, so its cutover goes on, whatever became of the spec meanwhile; nothing is lost that way. Undefined where that is not so.
 */
export function cutOverAgain(observed: Observed): Outcome | undefined {
  const { restore, machine, disks } = observed;
  if (machine === undefined || !isOurs(restore, machine) || machine.metadata.deletionTimestamp !== undefined)
    return undefined;
  if (!disks.some(({ name }) => diskStatus(observed, name)?.sealed === true)) return undefined;
  if (cutoverBegun(observed) || rollbackBegun(observed) || isSwitched(observed) || liveBegun(observed))
    return undefined;
  // What it writes to a target, nobody else may write over.
  if (!refersToServed(observed) || refersToTarget(observed)) return undefined;
  if (isTrue(conditionsBefore(observed), "Discarded")) return undefined;
  const message =
    "The machine lost the marks of its cutover, and its disks are sealed: nothing can be written to them. It is shut down, and its cutover goes on. To go back to the media agent instead, set spec.relocation.trial.decision to RollBack.";
  return acts([halt(observed, machine)], no("CutOver", "Halting", message));
}

/** What is still to be done for disks that nobody writes to any more. */
function whatRemains(observed: Observed): string {
  const states = observed.disks.map(({ name }) => progressOf(observed, name)?.state);
  if (states.every((state) => state === "Verifying" || state === "Done"))
    return "Every byte is on the target; its checksums are being compared.";
  const dirty = dirtyBytes(observed);
  return dirty === 0
    ? "The disks are sealed; the last pass looks for what is not on the target yet."
    : `The last ${formatBytes(dirty)} that the machine wrote are being copied.`;
}

function halt(observed: Observed, machine: VirtualMachine): Action {
  return updateMachine(machine, {
    annotations: {
      [CUTOVER_ANNOTATIONS.began]: new Date(observed.now).toISOString(),
      [CUTOVER_ANNOTATIONS.targets]: pinOf(observed),
      [CUTOVER_ANNOTATIONS.runStrategy]: strategyAfterwards(observed, machine),
      ...haltMarks(observed, machine),
    },
    spec: { runStrategy: "Halted" },
  });
}

function haltAgain(machine: VirtualMachine): Action {
  return updateMachine(machine, { spec: { runStrategy: "Halted" } });
}

function switchDisks(observed: Observed, machine: VirtualMachine): Action {
  const runStrategy = strategyToGoOn(machine, machine.metadata.annotations?.[CUTOVER_ANNOTATIONS.runStrategy]);
  return updateMachine(machine, {
    annotations: {
      [CUTOVER_ANNOTATIONS.switched]: new Date(observed.now).toISOString(),
      [CUTOVER_ANNOTATIONS.runStrategy]: undefined,
    },
    spec: { runStrategy, template: templateOn(machine, claimsTowards(observed, "Target")) },
  });
}

/** The machine on its target: ready, or waited for long enough. */
export function awaitTarget(observed: Observed): Outcome {
  const { restore, machine, instance, spec, now } = observed;
  const before = conditionOf(conditionsBefore(observed), "CutOver");
  if (before?.status === "True") return passed(yes("CutOver", before.reason, before.message));
  const done = (reason: string, message: string, status = {}): Outcome => ({
    ...passed(yes("CutOver", reason, message)),
    status,
  });
  if (machine === undefined || !isOurs(restore, machine))
    return done(
      "Switched",
      lostItsLabel(observed)
        ? "The machine's disks were switched to the target."
        : "The machine was deleted; its disks are on the target.",
    );
  const runStrategy = machine.spec?.runStrategy ?? "Always";
  if (["Halted", "Manual"].includes(runStrategy) && instance === undefined) {
    const why = whyItStaysHalted(machine) ?? `It is not running: its run strategy is ${runStrategy}.`;
    return done("Switched", `The machine's disks are on the target. ${why}`);
  }
  const { began } = CUTOVER_ANNOTATIONS;
  const annotations = machine.metadata.annotations ?? {};
  if (isGuestReady(observed)) {
    const downtime = formatDuration(now - Date.parse(annotations[began] ?? ""));
    return done(
      "Switched",
      annotations[began] === undefined
        ? "The machine runs from the target; it was moved there without a restart."
        : "The machine runs from the target.",
      annotations[began] === undefined ? {} : { cutoverDowntime: downtime },
    );
  }
  if (now - Date.parse(onTargetSince(observed) ?? "") > parseDuration(spec.launch.guestReady.timeout)) {
    return done(
      "GuestNotReady",
      "The machine's disks are on the target, but the guest did not get ready there in time. See its console.",
    );
  }
  const starting = launcherTrouble(observed) ?? "The machine starts from the target.";
  return waits(no("CutOver", "Starting", starting), POLL_MS);
}
