import { isDeepStrictEqual } from "node:util";
import { create, remove, removeAlone, removeIfThere } from "../actions.ts";
import { type ConditionDraft, isTrue } from "../conditions.ts";
import { SECRETS, VIRTUAL_MACHINES, type VirtualMachine } from "../kinds.ts";
import { updateMachine } from "./machine-update.ts";
import { isOurs } from "./names.ts";
import { isReplaced, REPLACE_ANNOTATIONS } from "./observe-old.ts";
import { conditionsBefore, type Observed } from "./observed.ts";
import {
  asBefore,
  factsOf,
  haltedFor,
  keptManifest,
  machineAgain,
  manifestOf,
  manifestSecret,
} from "./replaced-manifest.ts";
import { forgetSetAside, giveStateBack, oldStateClaims } from "./state-handover.ts";
import { acts, no, type Outcome, passed, waits, yes } from "./step.ts";

// Taking the place of an existing machine, and giving it back. Up to the old machine's deletion it is there, as it was or shut down;
// from then on its manifest is kept, and its disks. Whatever ends the restore before it is completed ends with one of the two.

const POLL_MS = 1000;
const CREATED = "VirtualMachineCreated";

/** Whether people want the old machine back. Once it is begun there is no way but on, whatever the spec says then. */
export function isUndone(observed: Observed): boolean {
  const isBegun = observed.old !== undefined && isTrue(conditionsBefore(observed), "Discarded");
  return observed.spec.replace?.undo === true || isBegun;
}

/** What keeps the machine that the spec names from being replaced. A chain, first match counts. */
export function replaceProblem({
  restore,
  spec,
  machine,
  old,
}: Observed): { reason: string; message: string } | undefined {
  const { replace } = spec;
  if (replace === undefined || old === undefined) return undefined;
  const name = spec.virtualMachine.name;
  // undone before it began → Undone
  if (replace.undo)
    return {
      reason: "Undone",
      message: "spec.replace.undo is set: nothing is made, and the old machine is not touched.",
    };
  // one of that name and another uid: made anew meanwhile, or mistaken → VirtualMachineExists
  if (machine !== undefined && !isReplaced(restore, spec, machine))
    return {
      reason: "VirtualMachineExists",
      message: `VirtualMachine ${name} is not the one that spec.replace.confirmUid names, and it is not touched. Look at it, and correct the uid.`,
    };
  // none → ReplacedNotFound
  if (old.machine === undefined)
    return {
      reason: "ReplacedNotFound",
      message: `There is no VirtualMachine ${name} with the uid that spec.replace.confirmUid names. Correct it, or take spec.replace out.`,
    };
  return oldProblem(old.machine, restore.metadata.uid);
}

function oldProblem(machine: VirtualMachine, restoreUid: string | undefined) {
  const { name, ownerReferences = [], annotations = {}, deletionTimestamp } = machine.metadata;
  const [owner] = ownerReferences;
  const replacing = annotations[REPLACE_ANNOTATIONS.replacing];
  // somebody deletes it: what becomes of its disks is settled already → ReplacedIsGoing
  if (deletionTimestamp !== undefined)
    return {
      reason: "ReplacedIsGoing",
      message: `VirtualMachine ${name} is being deleted, and its disks perhaps with it.`,
    };
  // a pool or something else would make it anew → ReplacedIsOwned
  if (owner !== undefined)
    return {
      reason: "ReplacedIsOwned",
      message: `VirtualMachine ${name} belongs to ${owner.kind} ${owner.name}, which would make it anew. Take it out of that first.`,
    };
  // another restore is at it → ReplacedByAnother
  if (replacing !== undefined && replacing !== restoreUid)
    return { reason: "ReplacedByAnother", message: `VirtualMachine ${name} is being replaced by another VMRestore.` };
  return undefined;
}

/**
 * Takes the old machine away once everything else is ready: its manifest kept → that written down → halted → nothing runs any more →
 * deleted without its disks. Each is seen before the next is done. Passes when it is gone.
 */
export function takePlace(observed: Observed): Outcome {
  const { restore, spec, old } = observed;
  const machine = old?.machine;
  const uid = spec.replace?.confirmUid;
  const doing = (message: string): ConditionDraft => no(CREATED, "Replacing", message);
  if (old === undefined || uid === undefined || machine?.metadata.uid !== uid) {
    // Somebody else deleted it, and it is not down yet.
    const isGoing = old !== undefined && observed.instance !== undefined && !isOurs(restore, observed.instance);
    return isGoing ? waits(doing("The old machine is shutting down."), POLL_MS) : passed();
  }
  const { name } = machine.metadata;
  if (machine.metadata.deletionTimestamp !== undefined)
    return waits(doing("The old machine is being deleted, without its disks."), POLL_MS);
  const problem = oldProblem(machine, restore.metadata.uid);
  if (problem !== undefined) {
    const refused = no(CREATED, problem.reason, problem.message);
    // It does not stand still for something that may last.
    const isHalted = machine.metadata.annotations?.[REPLACE_ANNOTATIONS.replacing] === restore.metadata.uid;
    return isHalted ? acts([updateMachine(machine, asBefore(machine))], refused) : waits(refused, 10_000);
  }
  const keeping = doing("The old machine's manifest is being kept.");
  if (old.secret === undefined) return acts([create(SECRETS, manifestSecret(restore, machine))], keeping);
  // It was edited since, or the Secret is not as it was made.
  if (!isDeepStrictEqual(keptManifest(old.secret), asSent(manifestOf(machine))))
    return acts([remove(SECRETS, old.secret)], keeping);
  const facts = { ...factsOf(old.secret, machine, uid), ...stateFacts(observed) };
  if (!isDeepStrictEqual(restore.status?.replaced, facts)) return { ...waits(keeping, 0), status: { replaced: facts } };
  const halting = doing(`The old machine ${name} is being shut down, to be replaced. Its disks are kept.`);
  if (machine.metadata.annotations?.[REPLACE_ANNOTATIONS.replacing] === undefined)
    return acts([updateMachine(machine, haltedFor(restore, machine))], halting);
  // Somebody started it meanwhile.
  if (machine.spec?.runStrategy !== "Halted")
    return acts([updateMachine(machine, { spec: { runStrategy: "Halted" } })], halting);
  if (old.instance !== undefined || old.pods.length > 0) return waits(halting, POLL_MS);
  return {
    ...acts([removeAlone(VIRTUAL_MACHINES, machine)], doing("The old machine is being deleted, without its disks.")),
    againMs: POLL_MS,
  };
}

/**
 * Gives the place back when the restored machine is gone, or was never made: the old machine started again, or made again of its
 * manifest. Passes when it is there, or nothing was ever done to it.
 */
export function putBack(observed: Observed): Outcome {
  const { restore, old, mountingPods, targetPods, spec } = observed;
  if (old === undefined || old.isNamespaceGoing) return passed();
  const doing = (reason: string, message: string) => no("PutBack", reason, message);
  const { machine, secret } = old;
  if (machine !== undefined) {
    if (machine.metadata.deletionTimestamp !== undefined)
      return waits(doing("Waiting", "The old machine is being deleted; it is made again then."), POLL_MS);
    const backAgain = doing("PuttingBack", "The old machine is being started again.");
    if (machine.metadata.annotations?.[REPLACE_ANNOTATIONS.replacing] === restore.metadata.uid)
      return acts([updateMachine(machine, asBefore(machine))], backAgain);
    // It needs its manifest no more.
    const last = [...forgetSetAside(observed), ...removeIfThere(SECRETS, secret)];
    if (last.length > 0) return acts(last, backAgain);
    const runStrategy = machine.spec?.runStrategy ?? "Always";
    const start = ["Manual", "Halted"].includes(runStrategy)
      ? ` Its run strategy is ${runStrategy}: start it yourself.`
      : "";
    const back = yes("PutBack", "PutBack", `The old machine is back.${start}`);
    return { ...passed(back), status: { replaced: undefined } };
  }
  const { replaced } = restore.status ?? {};
  // Somebody made another machine of that name: the place is taken.
  if (observed.machine !== undefined) return passed();
  // Nothing was done to it: somebody else deleted it.
  if (replaced === undefined) return secret === undefined ? passed() : acts([remove(SECRETS, secret)]);
  if (mountingPods.length > 0 || targetPods.length > 0)
    return waits(doing("Waiting", "The restored machine's pods are ending."), POLL_MS);
  const again = machineAgain(restore, secret, replaced);
  const { name } = spec.virtualMachine;
  if (again === undefined) {
    const message = `Secret ${replaced.manifestSecret}, with the old machine's manifest, is gone or was changed. Put it back, or make VirtualMachine ${name} yourself; its disks are the claims ${replaced.claims.join(", ")}.`;
    return waits(doing("ManifestLost", message), 10_000);
  }
  const state = giveStateBack(observed);
  if (!state.passes) return state;
  return acts([create(VIRTUAL_MACHINES, again)], doing("PuttingBack", "The old machine is being made again."));
}

/** What people should know of the disks that are kept. */
export function keptDisks({ restore }: Observed): string {
  const { replaced } = restore.status ?? {};
  if (replaced === undefined) return "";
  const claims = replaced.claims.length === 0 ? "it had none" : replaced.claims.join(", ");
  const state =
    replaced.stateClaims === undefined ? "" : `, its TPM and firmware state (${replaced.stateClaims.join(", ")})`;
  return ` The old machine's disks are kept (${claims})${state}, and its manifest in Secret ${replaced.manifestSecret}: delete them when you need them no more.`;
}

/** What is lost when the old machine is put back. */
export function undoLoss(observed: Observed): string {
  const { restore, machine } = observed;
  const told = conditionsBefore(observed).find(({ type, status }) => type === CREATED && status === "True");
  // Its making was perhaps not written down yet.
  const since = isOurs(restore, machine) ? machine?.metadata.creationTimestamp : told?.lastTransitionTime;
  const { name } = observed.spec.virtualMachine;
  return since === undefined
    ? `VirtualMachine ${name} is put back as it was: the restored machine was never made, so nothing is lost.`
    : `VirtualMachine ${name} is put back on its old disks. What the restored machine wrote since it was made, at ${since}, is lost.`;
}

function stateFacts(observed: Observed): { stateClaims?: string[] } {
  const stateClaims = oldStateClaims(observed);
  return stateClaims.length === 0 ? {} : { stateClaims };
}

/** As it comes back from a server. */
function asSent(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}
