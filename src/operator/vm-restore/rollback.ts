import { type Action, removeIfThere } from "../actions.ts";
import { conditionOf } from "../conditions.ts";
import { CLAIMS, JOBS, type VirtualMachine, VOLUMES } from "../kinds.ts";
import { runAgent } from "./agent-step.ts";
import { copyAnew, diskStatus, hasProgress, progressOf } from "./copy-progress.ts";
import {
  CUTOVER_ANNOTATIONS,
  cutoverBegun,
  isSwitched,
  onTargetSince,
  ROLLBACK_ANNOTATIONS,
  rollbackBegun,
} from "./cutover-state.ts";
import { missingVolumes } from "./machine-step.ts";
import { templateOn, updateMachine } from "./machine-update.ts";
import { isOurs } from "./names.ts";
import { conditionsBefore, type Observed } from "./observed.ts";
import { EPOCH, type Plan } from "./plan.ts";
import { claimsTowards } from "./served-claims.ts";
import { haltMarks, strategyAfterwards, strategyToGoOn } from "./start-again.ts";
import { acts, no, type Outcome, waits } from "./step.ts";
import { isCommitted, isOverlayLost, lossOf, verdictOf } from "./trial.ts";

const POLL_MS = 500;

/**
 * Takes a machine back to the media agent: from its target while it is on trial, or from a cutover that does not come to its end.
 * Halted → nothing counts as copied any more → seal taken back → volumes to the new exports → switched. Each is seen before the next
 * is done. Undefined where nothing is to be taken back.
 */
export function rollBack(observed: Observed, plan: Plan): Outcome | undefined {
  if (rollbackBegun(observed)) return goBack(observed, plan);
  const { machine, restore } = observed;
  if (machine === undefined || !isOurs(restore, machine) || isCommitted(observed)) return undefined;
  if (!isSwitched(observed) && !cutoverBegun(observed)) return undefined;
  if (verdictOf(observed).is !== "roll back") return undefined;
  // A machine is not halted for an agent that it cannot run from: until then it stays where it is.
  if (!runAgent(observed, plan).passes) return undefined;
  return acts(
    [halt(observed, machine)],
    rollingBack(`The machine is being shut down, to go back to the media agent. ${lossOf(observed)}`),
  );
}

function goBack(observed: Observed, plan: Plan): Outcome {
  const { machine, instance, disks, job, jobPods } = observed;
  // It is written down that the machine is not cut over before it is so: it may be deleted at any time.
  const before = conditionOf(conditionsBefore(observed), "CutOver");
  const halting = rollingBack("The machine is being shut down, to go back to the media agent.");
  if (machine === undefined || before?.reason !== halting.reason) return waits(halting, 0);
  if (isOverlayLost(observed) && onTargetSince(observed) !== undefined) return stayOnTarget(machine);
  const isMarked = machine.metadata.annotations?.[ROLLBACK_ANNOTATIONS.runStrategy] !== undefined;
  // Somebody replaced it.
  if (!isMarked && machine.spec?.runStrategy !== "Halted") return acts([halt(observed, machine)], halting);
  if (machine.spec?.runStrategy !== "Halted")
    return acts([updateMachine(machine, { spec: { runStrategy: "Halted" } })], halting);
  if (instance !== undefined) return waits(halting, POLL_MS);
  if (job !== undefined || jobPods.length > 0) {
    return { ...acts(removeIfThere(JOBS, job), rollingBack("The relocation Job is ending.")), againMs: POLL_MS };
  }
  const agent = runAgent(observed, plan);
  if (!agent.passes)
    return { ...agent, conditions: [...(agent.conditions ?? []), rollingBack("The media agent is waited for.")] };
  const opening = rollingBack("The media agent's disks are being opened for writing again.");
  const stale = disks.filter(({ name }) => hasProgress(progressOf(observed, name)));
  if (stale.length > 0)
    return acts(
      stale.map(({ name }) => copyAnew(name)),
      opening,
    );
  const sealed = disks.filter(({ name }) => diskStatus(observed, name)?.sealed === true);
  if (sealed.length > 0)
    return acts(
      sealed.map(({ name }) => unseal(name)),
      opening,
    );
  const moving = rollingBack("The machine's volumes are being moved to the media agent's new exports.");
  const old = disks.filter(
    ({ name, volume }) => volume !== undefined && volume.spec?.nfs?.path !== diskStatus(observed, name)?.exportPath,
  );
  if (old.length > 0) return { ...acts(old.flatMap(removeServed), moving), againMs: POLL_MS };
  const missing = missingVolumes(observed);
  if (missing.length > 0) return acts(missing, moving);
  return acts([switchBack(observed, machine)], rollingBack("The machine starts from the media agent."));
}

/** There is nothing to go back to any more, and the target holds everything: better there than halted for good. */
function stayOnTarget(machine: VirtualMachine): Outcome {
  const runStrategy = strategyToGoOn(machine, machine.metadata.annotations?.[ROLLBACK_ANNOTATIONS.runStrategy]);
  const message = "The media agent's overlay is gone, and with it the way back: the machine starts from its target.";
  return acts(
    [updateMachine(machine, { annotations: { [ROLLBACK_ANNOTATIONS.runStrategy]: undefined }, spec: { runStrategy } })],
    no("CutOver", "Starting", message),
  );
}

function rollingBack(message: string) {
  return no("CutOver", "RollingBack", message);
}

function unseal(name: string): Action {
  return { do: "agent", what: `unseal ${name}`, call: (agent) => agent.unseal(name, EPOCH) };
}

/** A volume's export cannot be changed: claim and volume are made anew. Nothing mounts them: the machine is halted. */
function removeServed({ claim, volume }: Observed["disks"][number]): Action[] {
  return claim === undefined ? removeIfThere(VOLUMES, volume) : removeIfThere(CLAIMS, claim);
}

function halt(observed: Observed, machine: VirtualMachine): Action {
  // Halted for cutover already: what it was like before that counts.
  const before = machine.metadata.annotations?.[CUTOVER_ANNOTATIONS.runStrategy];
  return updateMachine(machine, {
    annotations: {
      [ROLLBACK_ANNOTATIONS.runStrategy]: before ?? strategyAfterwards(observed, machine),
      [CUTOVER_ANNOTATIONS.runStrategy]: undefined,
      ...(before === undefined ? haltMarks(observed, machine) : {}),
    },
    spec: { runStrategy: "Halted" },
  });
}

function switchBack(observed: Observed, machine: VirtualMachine): Action {
  const runStrategy = strategyToGoOn(machine, machine.metadata.annotations?.[ROLLBACK_ANNOTATIONS.runStrategy]);
  return updateMachine(machine, {
    annotations: {
      [ROLLBACK_ANNOTATIONS.rolledBack]: new Date(observed.now).toISOString(),
      [ROLLBACK_ANNOTATIONS.lostSince]: onTargetSince(observed),
      [ROLLBACK_ANNOTATIONS.runStrategy]: undefined,
      [CUTOVER_ANNOTATIONS.began]: undefined,
      [CUTOVER_ANNOTATIONS.switched]: undefined,
      [CUTOVER_ANNOTATIONS.targets]: undefined,
    },
    spec: { runStrategy, template: templateOn(machine, claimsTowards(observed, "Served")) },
  });
}
