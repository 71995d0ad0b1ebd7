import { type Action, create, removeIfThere } from "../actions.ts";
import { conditionOf, isTrue } from "../conditions.ts";
import { CLAIMS, VIRTUAL_MACHINES, VOLUMES } from "../kinds.ts";
import { type KubernetesObject, type Manifest, stands } from "../runtime/objects.ts";
import { macConflict, sharedIdentity } from "./conflicts.ts";
import { cutoverBegun } from "./cutover-state.ts";
import { busActions } from "./disk-bus.ts";
import { guestTrouble, isGuestLate, isGuestReady, whyStopped } from "./guest.ts";
import { launcherTrouble } from "./launcher-trouble.ts";
import { isOurs } from "./names.ts";
import { conditionsBefore, type Observed } from "./observed.ts";
import { isOwnServed } from "./own-claims.ts";
import type { Plan } from "./plan.ts";
import { recreated } from "./recreated.ts";
import { missingMessage, planReferences, type ReferencePlan } from "./reference-step.ts";
import { keptDisks, takePlace } from "./replace-step.ts";
import { howToPutItsLabelBack, lostItsLabel } from "./served-claims.ts";
import { servedVolume } from "./served-volume.ts";
import { takeOverState } from "./state-handover.ts";
import { carriesState, restoreState, stateToCopy } from "./state-step.ts";
import { acts, no, type Outcome, passed, waits, yes } from "./step.ts";

const CREATED = "VirtualMachineCreated";
const STARTING = "The machine is being started.";

/** Whether a machine can be made of the manifest at all: told as soon as the agent has handed it over, not after all is staged. */
export function checkManifest(observed: Observed, plan: Plan): Outcome {
  if (observed.machine !== undefined || isTrue(conditionsBefore(observed), CREATED)) return passed();
  const made = recreated(observed, plan.disks)?.made;
  if (made === undefined || !("problem" in made)) return passed();
  return waits(no(CREATED, made.reason, made.problem), 10_000);
}

/** The volumes that the agent serves, and the machine on them. Made once: a machine that its users deleted stays deleted. */
export function makeMachine(observed: Observed, plan: Plan): Outcome {
  const { restore, spec, machine } = observed;
  const name = spec.virtualMachine.name;
  if (machine !== undefined) {
    if (isOurs(restore, machine)) {
      // Somebody may have deleted a claim, and it went when the machine stopped. After cutover nobody needs it.
      const lost = cutoverBegun(observed) ? [] : missingVolumes(observed);
      return lost.length > 0 ? acts(lost, created(observed)) : passed(created(observed));
    }
    if (lostItsLabel(observed)) return waits(no(CREATED, "LabelLost", howToPutItsLabelBack(observed)), 10_000);
    const message = `There is a VirtualMachine ${name} that this restore did not make. Delete one of the two.`;
    // Nobody tells when a machine of somebody else goes.
    return waits(no(CREATED, "VirtualMachineExists", message), 10_000);
  }
  const before = conditionOf(conditionsBefore(observed), CREATED);
  if (before?.status === "True" || before?.reason === "VirtualMachineDeleted") {
    const message = `VirtualMachine ${name} was deleted. What it wrote is still in the media agent; delete this VMRestore to discard it.`;
    return waits(no(CREATED, "VirtualMachineDeleted", message));
  }
  const foreign = observed.disks.find((disk) => disk.claim !== undefined && !isOwnServed(restore, disk));
  if (foreign !== undefined) {
    const message = `There is a claim ${foreign.claim?.metadata.name} that this restore did not make. Rename or delete it.`;
    return waits(no(CREATED, "ClaimExists", message), 10_000);
  }
  const volumes = missingVolumes(observed);
  const starting = no(CREATED, "Creating", "The machine's volumes are being made.");
  if (volumes.length > 0) return acts(volumes, starting);
  if (!observed.disks.every(({ volume, claim }) => stands(volume) && stands(claim))) return waits(starting, 1000);
  return createMachine(observed, plan);
}

function createMachine(observed: Observed, plan: Plan): Outcome {
  const { restore, spec, missingNetworks } = observed;
  const { name } = spec.virtualMachine;
  const neighbours = withoutOld(observed);
  const result = recreated(observed, plan.disks);
  if (result === undefined) {
    const message = "The snapshot holds no manifest. Give one with spec.virtualMachine.manifest.from: Inline.";
    return waits(no(CREATED, "NoManifest", message), 10_000);
  }
  const { made, carried } = result;
  if ("problem" in made) return waits(no(CREATED, made.reason, made.problem), 10_000);
  const conflict = macConflict(made.machine, neighbours);
  if (conflict !== undefined) return waits(no(CREATED, conflict.reason, conflict.problem), 10_000);
  const [network] = missingNetworks;
  if (network !== undefined) {
    const message = `There is no NetworkAttachmentDefinition ${network}, which is one of the machine's networks. Create it, name another one in spec.virtualMachine.networkMap (networks: Map), or set spec.virtualMachine.networks to Disconnect.`;
    return waits(no(CREATED, "NetworkNotFound", message), 10_000);
  }
  const { references, actions, missing, remarks } = planReferences(observed, carried, made.machine);
  // A claim that has to be made has nothing on it, whatever one before it had.
  const makesClaim = actions.some((action) => action.do === "create" && action.type === CLAIMS);
  const stateRestored = !makesClaim && restore.status?.machine?.stateRestored === true ? { stateRestored: true } : {};
  const machine = { leftOut: [...made.leftOut], references, ...stateRestored };
  const status: Outcome["status"] = { machine };
  if (missing.length > 0) {
    const { reason, message } = missingMessage(missing);
    return { ...waits(no(CREATED, reason, message), 10_000), status };
  }
  // What is to be made stands in the status before it is, so that whoever removes the machine finds it.
  const written = new Set(createdReferences(restore.status?.machine?.references));
  if (!createdReferences(references).every((key) => written.has(key)))
    return { ...waits(no(CREATED, "Creating", "What the machine refers to is being made."), 0), status };
  const isNewClaim = references.some(({ kind, state }) => kind === "PersistentVolumeClaim" && state === "Created");
  if (isNewClaim && carriesState(observed)) {
    // Its claim is among them, and what fills the claim needs it.
    if (actions.length > 0)
      return { ...acts(actions, no(CREATED, "Creating", "What the machine refers to is being made.")), status };
    const filled = restoreState(observed, plan);
    if (!filled.passes) return { ...filled, status: { ...status, ...filled.status } };
  }
  if (observed.old !== undefined) {
    // Whatever could stand in the way is out of it before the old machine is touched.
    const being = no(CREATED, "Creating", "What the machine refers to is being made.");
    const place = actions.length > 0 ? acts(actions, being) : takePlace(observed);
    if (!place.passes) return { ...place, status: { ...status, ...place.status } };
    const state = takeOverState(observed);
    if (!state.passes) return { ...state, status };
    const source = isNewClaim ? stateToCopy(observed, made.machine) : undefined;
    if (source !== undefined) {
      const copied = restoreState(observed, plan, source);
      if (!copied.passes) return { ...copied, status: { ...status, ...copied.status } };
    }
  }
  const left = made.leftOut.length === 0 ? "" : ` Left out of the manifest: ${made.leftOut.slice(0, 20).join(", ")}.`;
  const buses = busActions(observed, made.machine.spec?.template?.spec?.domain?.devices?.disks ?? []);
  const identity = sharedIdentity(made.machine, spec, neighbours);
  return {
    ...acts(
      [...buses, ...actions, create(VIRTUAL_MACHINES, made.machine as unknown as Manifest)],
      yes(CREATED, "Created", `VirtualMachine ${name} was made.${left}${remarks}${identity}${keptDisks(observed)}`),
      no("GuestReady", "Booting", STARTING),
    ),
    status,
  };
}

/** The old machine runs on while everything is made ready, and is gone when the new one starts. */
function withoutOld({ neighbours, old }: Observed): Observed["neighbours"] {
  const uids = new Set([old?.machine?.metadata.uid, old?.instance?.metadata.uid]);
  const isOther = ({ metadata }: KubernetesObject) => metadata.uid === undefined || !uids.has(metadata.uid);
  return { machines: neighbours.machines.filter(isOther), instances: neighbours.instances.filter(isOther) };
}

function createdReferences(references: ReferencePlan["references"] = []): string[] {
  return references.filter(({ state }) => state === "Created").map(({ kind, name }) => `${kind}/${name}`);
}

function created(observed: Observed) {
  const before = conditionsBefore(observed).find(({ type, status }) => type === CREATED && status === "True");
  return yes(
    CREATED,
    "Created",
    before?.message ?? `VirtualMachine ${observed.spec.virtualMachine.name} was made.${keptDisks(observed)}`,
  );
}

/** The volumes and claims of disks that the agent serves and that are not there; each volume leads to the export as it is now. */
export function missingVolumes({ restore, spec, disks, service, agent }: Observed): Action[] {
  return disks.flatMap((disk) => {
    const served = agent.status?.disks.find(({ name }) => name === disk.name);
    if (served === undefined) return [];
    const address = service?.spec?.clusterIP ?? "";
    const objects = servedVolume(restore, spec.virtualMachine.name, disk, { address, exportPath: served.exportPath });
    const { volume, claim } = disk;
    // A volume whose claim is gone is never bound again: both are made anew, to the same export.
    if (volume !== undefined && claim === undefined && volume.spec?.claimRef?.uid !== undefined)
      return removeIfThere(VOLUMES, volume);
    return [
      ...(volume === undefined ? [create(VOLUMES, objects.volume)] : []),
      ...(claim === undefined ? [create(CLAIMS, objects.claim)] : []),
    ];
  });
}

/** The guest, once: what it does afterwards is its users' affair. */
export function awaitGuest(observed: Observed): Outcome {
  const { spec } = observed;
  const before = conditionsBefore(observed).find(({ type, status }) => type === "GuestReady" && status === "True");
  if (before !== undefined) return passed(yes("GuestReady", before.reason, before.message));
  const { probe, timeout } = spec.launch.guestReady;
  if (isGuestReady(observed))
    return passed(yes("GuestReady", probe === "Running" ? "Running" : "GuestAgentConnected", "The guest is ready."));
  const passes = spec.relocation.begin === "Immediately";
  const outcome = (reason: string, message: string): Outcome => ({
    passes,
    conditions: [no("GuestReady", reason, message)],
    againMs: 1000,
  });
  const stopped = whyStopped(observed);
  if (stopped !== undefined) return outcome(stopped.reason, stopped.message);
  const trouble = guestTrouble(observed) ?? launcherTrouble(observed);
  if (isGuestLate(observed)) {
    const wait = probe === "GuestAgent" ? " If the guest runs no guest agent, use the probe Running." : "";
    return outcome(
      "TimedOut",
      `The guest was not ready within ${timeout}; it is still waited for.${wait}${trouble === undefined ? "" : ` ${trouble}`}`,
    );
  }
  return outcome("Booting", trouble ?? bootMessage(observed));
}

function bootMessage({ instance, spec }: Observed): string {
  const phase = instance?.status?.phase;
  if (phase === undefined) return STARTING;
  if (phase !== "Running") return `The machine is being started: it is ${phase}.`;
  return spec.launch.guestReady.probe === "GuestAgent"
    ? "The guest boots; its guest agent is waited for."
    : "The guest boots.";
}
