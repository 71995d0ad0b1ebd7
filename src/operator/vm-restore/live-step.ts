import { formatBytes } from "../../base/format-bytes.ts";
import { sentence } from "../backup-repository/decide.ts";
import type { VirtualMachine } from "../kinds.ts";
import { CUTOVER_ANNOTATIONS, pinOf } from "./cutover-state.ts";
import { launcherTrouble } from "./launcher-trouble.ts";
import { holdInstance, isHeld, LIVE_ANNOTATIONS, type LiveState, liveState } from "./live-state.ts";
import { templateOn, updateMachine } from "./machine-update.ts";
import type { Observed } from "./observed.ts";
import { hasEnded } from "./pods.ts";
import { claimPairs, claimsTowards } from "./served-claims.ts";
import { acts, no, type Outcome, waits } from "./step.ts";

const POLL_MS = 1000;
/** Of what the instance does a watch tells; how far the copy is, and what its migrations say, is only read. */
const PROGRESS_MS = 2000;
/** Attempts of KubeVirt's that may fail before `Auto` copies instead. */
const ATTEMPTS = 2;
const MIGRATION = "Migration";

/** The machine is to be migrated: it is marked first, so that whoever comes next knows which instance it is about. */
export function beginLive(observed: Observed): Outcome {
  const { machine, instance } = observed;
  if (machine === undefined || instance === undefined)
    return waits(no("Relocated", "LiveMigrationNotPossible", "The machine is not running."), POLL_MS);
  const annotations = {
    [LIVE_ANNOTATIONS.instance]: instance.metadata.uid,
    [LIVE_ANNOTATIONS.targets]: pinOf(observed),
  };
  return acts([updateMachine(machine, { annotations })], preparing());
}

/** What there is of a live migration is brought to its end, or taken back. */
export function migrateLive(observed: Observed): Outcome {
  const { machine } = observed;
  const live = liveState(observed);
  if (machine !== undefined && live.hasArrived) return arrive(observed, machine, live);
  if (machine === undefined || machine.metadata.deletionTimestamp !== undefined)
    return waits(no("Relocated", "Migrating", "The machine is being deleted."), POLL_MS);
  const cause = endCause(observed, live);
  if (!live.began) return cause === undefined ? pointAtTargets(observed, machine, live) : cleanUp(machine, live, cause);
  if (live.instance === undefined && live.machineOn !== "Served") return unclear(observed);
  return cause === undefined ? progress(observed, live) : takeBack(observed, machine, live, cause);
}

/** Why a migration ends. `lasting`: it is not tried again. */
interface Cause {
  readonly message: string;
  readonly lasting: boolean;
}

/** A chain, first match counts. */
function endCause(observed: Observed, live: LiveState): Cause | undefined {
  const { spec, restore, disks } = observed;
  const passing = (message: string): Cause => ({ message, lasting: false });
  const lasting = (message: string): Cause => ({ message, lasting: true });
  // it is under way already, whatever was the reason
  if (live.takenBack !== undefined) return passing(live.takenBack);
  // given up before
  if (live.givenUp !== undefined) return passing(live.givenUp);
  // people want something else
  if (restore.metadata.deletionTimestamp !== undefined) return passing("The VMRestore was deleted.");
  if (!["Auto", "LiveMigration"].includes(spec.relocation.strategy)) return passing("Live migration was called off.");
  if (spec.relocation.trial?.decision === "RollBack") return passing("It was decided that the machine goes back.");
  // it cannot be stopped half-way, only begun anew
  if (spec.relocation.paused) return passing("Relocation is paused.");
  // the instance is another, or does not run any more
  if (live.instance === undefined || live.isOver) return passing("The machine ended before it was migrated.");
  if (!live.began) return undefined;
  // somebody set the volumes back: that is how KubeVirt's users call it off
  if (live.machineOn === "Served") return lasting("somebody set the machine's volumes back while they were migrated");
  // the target is about to go
  const gone = disks.find(
    ({ targetClaim: claim }) => claim === undefined || claim.metadata.deletionTimestamp !== undefined,
  );
  if (gone !== undefined) return passing(`Target claim ${gone.target.claimName} was deleted.`);
  // KubeVirt would restart the machine for it
  if (live.refusal !== undefined) return lasting(`KubeVirt refused to migrate the machine: ${live.refusal}`);
  // KubeVirt tries again and again
  if (live.failures.length >= ATTEMPTS && spec.relocation.strategy === "Auto")
    return lasting(
      `${live.failures.length} attempts at live migration failed, the last because: ${live.failures.at(-1)}`,
    );
  return undefined;
}

function preparing() {
  return no("Relocated", "Preparing", "The machine is about to be migrated live by KubeVirt.");
}

function pointAtTargets(observed: Observed, machine: VirtualMachine, { instance }: LiveState): Outcome {
  if (instance !== undefined && !isHeld(instance))
    return acts([holdInstance(instance, true, machine.metadata.annotations?.[LIVE_ANNOTATIONS.targets])], preparing());
  const annotations = { [LIVE_ANNOTATIONS.began]: new Date(observed.now).toISOString() };
  const migrating = no("Relocated", "Migrating", "KubeVirt is about to take over the target claims.");
  return acts([point(observed, machine, "Target", annotations)], migrating);
}

/** The machine with all its disks here or there. The strategy stays until KubeVirt is done, so that nothing waits for a restart. */
function point(
  observed: Observed,
  machine: VirtualMachine,
  place: "Served" | "Target",
  annotations: Record<string, string | undefined>,
) {
  const template = templateOn(machine, claimsTowards(observed, place));
  const spec = { updateVolumesStrategy: MIGRATION, template };
  return updateMachine(machine, { annotations, spec });
}

/** The guest is on the targets: there is no way back from here, whatever KubeVirt or anybody says. */
function arrive(observed: Observed, machine: VirtualMachine, live: LiveState): Outcome {
  const at = new Date(observed.now).toISOString();
  const finishing = no("Relocated", "Arrived", "The machine runs on its target; KubeVirt finishes the migration.");
  if (!live.isArrivalRecorded)
    return acts([updateMachine(machine, { annotations: { [LIVE_ANNOTATIONS.arrived]: at } })], finishing);
  // Somebody called it off too late.
  if (live.machineOn === "Served") return acts([point(observed, machine, "Target", {})], finishing);
  if (live.machineOn === "Neither") return waits(foreignVolumes(observed, "target"), POLL_MS);
  const isOver = live.instance === undefined || live.isOver;
  if (!isOver && !live.hasSucceeded) return waits(finishing, POLL_MS);
  // From then on it has been writing to the targets; people may have set the mark by hand.
  const arrived = machine.metadata.annotations?.[LIVE_ANNOTATIONS.arrived] ?? "";
  const switched = Number.isNaN(Date.parse(arrived)) ? at : arrived;
  const change = {
    annotations: {
      ...WITHOUT_MARKS,
      [LIVE_ANNOTATIONS.givenUp]: undefined,
      [CUTOVER_ANNOTATIONS.switched]: switched,
      [CUTOVER_ANNOTATIONS.targets]: pinOf(observed),
    },
    spec: { updateVolumesStrategy: undefined },
  };
  return acts(
    [updateMachine(machine, change)],
    no("Relocated", "Arrived", "The machine has been moved to its target."),
  );
}

const WITHOUT_MARKS = {
  [LIVE_ANNOTATIONS.instance]: undefined,
  [LIVE_ANNOTATIONS.targets]: undefined,
  [LIVE_ANNOTATIONS.began]: undefined,
  [LIVE_ANNOTATIONS.arrived]: undefined,
  [LIVE_ANNOTATIONS.takenBack]: undefined,
};

/** The old claims → KubeVirt calls the migration off → nothing runs on the targets → the marks. Each is seen before the next is done. */
function takeBack(observed: Observed, machine: VirtualMachine, live: LiveState, cause: Cause): Outcome {
  const { targetPods } = observed;
  const message = sentence(`${cause.message.replace(/\.$/, "")}: the machine runs on from the media agent`);
  const cancelling = no("Relocated", "Cancelling", message);
  const running = targetPods.filter((pod) => !hasEnded(pod));
  // An instance that has ended may still be found to have arrived, for as long as something runs there.
  if (live.isOver && running.length > 0) return waits(cancelling, POLL_MS);
  const lasting = cause.lasting ? { [LIVE_ANNOTATIONS.givenUp]: cause.message } : {};
  const marks = { [LIVE_ANNOTATIONS.takenBack]: cause.message, ...lasting };
  if (live.machineOn === "Target" || live.takenBack === undefined)
    return acts([point(observed, machine, "Served", marks)], cancelling);
  if (live.machineOn === "Neither") return waits(foreignVolumes(observed, "served"), POLL_MS);
  const isBack = live.instance === undefined || live.isOver || (!live.isMoving && live.instanceOn === "Served");
  const isOpen = live.instance !== undefined && !live.isOver && live.open !== undefined;
  if (!isBack || isOpen || running.length > 0) return waits(cancelling, POLL_MS);
  return cleanUp(machine, live, cause);
}

/** The marks go last: an instance that is held and a machine without them are one that somebody replaced. */
function cleanUp(machine: VirtualMachine, { instance }: LiveState, { message }: Cause): Outcome {
  if (instance !== undefined && isHeld(instance))
    return acts([holdInstance(instance, false)], no("Relocated", "Cancelled", sentence(message)));
  const change = { annotations: WITHOUT_MARKS, spec: { updateVolumesStrategy: undefined } };
  return acts([updateMachine(machine, change)], no("Relocated", "Cancelled", sentence(message)));
}

/** Nobody saw how it ended: both ends may hold what was written last, and only people can tell. */
function unclear(observed: Observed): Outcome {
  const { name, namespace } = observed.machine?.metadata ?? {};
  const pairs = claimPairs(observed);
  const list = (claims: string[]): string => claims.join(", ");
  const message = `The instance of VirtualMachine ${name} that was being migrated is gone, and how that ended was not seen. Nothing is changed, and the media agent keeps everything. If the machine ran on the targets (${list(pairs.map(({ target }) => target))}) last, run \`kubectl annotate virtualmachine ${name} --namespace ${namespace} ${LIVE_ANNOTATIONS.arrived}=yes\`. Otherwise set its volumes back to ${list(pairs.map(({ served }) => served))}.`;
  return waits(no("Relocated", "LiveMigrationUnclear", message), 5000);
}

function foreignVolumes(observed: Observed, wanted: "served" | "target") {
  const claims = claimPairs(observed).map((pair) => pair[wanted]);
  const message = `Somebody changed the machine's volumes while they were migrated. Set them to ${claims.join(", ")}.`;
  return no("Relocated", "VolumesChanged", message);
}

function progress(observed: Observed, live: LiveState): Outcome {
  if (live.machineOn === "Neither") return waits(foreignVolumes(observed, "target"), POLL_MS);
  const last = live.failures.at(-1);
  const before = last === undefined ? "" : ` Attempt ${live.failures.length} failed: ${last.replace(/\.$/, "")}.`;
  // A short copy is over before there was much to measure.
  const againMs = observed.agent.copyRate === undefined && isCopying(live) ? POLL_MS : PROGRESS_MS;
  return waits(no("Relocated", "Migrating", `${whatKubeVirtDoes(observed, live)}${before}`), againMs);
}

function isCopying({ open, isMoving }: LiveState): boolean {
  return isMoving && open?.status?.phase === "Running";
}

function whatKubeVirtDoes(observed: Observed, live: LiveState): string {
  const { open, isMoving, failures, instance } = live;
  const change = instance?.status?.conditions?.find(({ type }) => type === "VolumesChange");
  if (change?.status === "False" && change.message !== undefined) return sentence(`KubeVirt waits: ${change.message}`);
  if (!isMoving) return "KubeVirt is about to take over the target claims.";
  const phase = open?.status?.phase ?? "";
  if (open === undefined) return "KubeVirt is about to make a migration.";
  if (phase === "" || phase === "Pending")
    return failures.length > 0
      ? "KubeVirt makes a pause before it tries again."
      : "The migration waits for its turn: KubeVirt runs few at once.";
  if (isCopying(live)) return copied(observed);
  const prepares = "KubeVirt prepares the machine's second launcher pod, on another node.";
  return launcherTrouble(observed, "second launcher pod") ?? prepares;
}

/** What the copy has read. It counts only once the machine has moved. */
function copied({ agent, disks }: Observed): string {
  const total = disks.reduce((sum, { size }) => sum + size, 0);
  const read = agent.status?.disks.reduce((sum, { copiedUntil = 0 }) => sum + copiedUntil, 0) ?? 0;
  if (read === 0) return `KubeVirt copies ${formatBytes(total)} to the target; how far it has come is not known yet.`;
  return `KubeVirt has read ${formatBytes(read)} of ${formatBytes(total)} for the target, which count once the machine has moved.`;
}
