import type { ReferenceState, VMRestoreStatus } from "../../api/vm-restore-status.ts";
import { type Action, create, removeIfThere } from "../actions.ts";
import { JOBS, SECRETS, type VirtualMachine } from "../kinds.ts";
import type { Manifest } from "../runtime/objects.ts";
import { type Carried, type CarriedObjects, readCarried, saysTheSame } from "./manifest/carried-objects.ts";
import { at } from "./manifest/shape.ts";
import { isOurs, restoreLabels, STATE_LABEL, stateClaimName } from "./names.ts";
import { REFERENCE_TYPES } from "./observe-references.ts";
import type { Observed, ObservedReference } from "./observed.ts";
import { carriesState, stateToCopy } from "./state-step.ts";

/** KubeVirt's own size for it. */
const STATE_SIZE = "10Mi";
const INSTANCETYPE_LABELS = "instancetype.kubevirt.io/object";

export interface ReferencePlan {
  readonly references: NonNullable<NonNullable<VMRestoreStatus["machine"]>["references"]>;
  /** Makes what the backup carries and the namespace lacks. */
  readonly actions: readonly Action[];
  /** What the machine cannot start without and nobody has. */
  readonly missing: readonly ObservedReference[];
  /** Worth a sentence: what is not as it was backed up. */
  readonly remarks: string;
}

/**
 * What becomes of everything that the machine refers to. Nothing that is there is ever changed: the namespace's owner put it there,
 * and a backup knows less.
 *
 * @param made the machine that is about to be made
 */
export function planReferences(observed: Observed, { objects }: CarriedObjects, made: VirtualMachine): ReferencePlan {
  const references = observed.references.filter(({ isStale }) => isStale !== true);
  const actions: Action[] = removalsOf(observed, ({ isStale }) => isStale === true);
  const missing: ObservedReference[] = [];
  const entries = references.map((reference) => {
    const { kind, name, present, optional } = reference;
    const carried = contentFor(reference, objects);
    const state = stateOf(observed, reference, carried);
    if (state === "Created" && present === undefined) {
      const object = carried === undefined ? stateClaim(observed) : objectOf(observed, carried);
      actions.push(create(REFERENCE_TYPES[kind], object));
    }
    if (state === "Missing" && !optional) missing.push(reference);
    return { kind, name, state };
  });
  return { references: entries, actions, missing, remarks: remarksOn(entries, observed, made) };
}

/** What the snapshot holds of it; of a copy, failing that, what its original says here. */
function contentFor(
  { kind, name, original }: ObservedReference,
  objects: CarriedObjects["objects"],
): Carried | undefined {
  const carried = objects.find((object) => object.kind === kind && object.name === (original?.name ?? name));
  const { objects: here } = readCarried(original?.present === undefined ? [] : [original.present], undefined);
  const content = carried ?? here.find((object) => object.kind === kind);
  return content === undefined ? undefined : { ...content, name };
}

function stateOf(
  { restore }: Observed,
  { kind, present }: ObservedReference,
  carried: Carried | undefined,
): ReferenceState {
  if (present === undefined) return carried !== undefined || kind === "PersistentVolumeClaim" ? "Created" : "Missing";
  if (isOurs(restore, present)) return "Created";
  if (carried === undefined) return "Found";
  return saysTheSame(carried, present) ? "Same" : "Differs";
}

function remarksOn(entries: ReferencePlan["references"], observed: Observed, made: VirtualMachine): string {
  const remarks: string[] = [];
  const differing = entries.filter(({ state }) => state === "Differs").map(({ kind, name }) => `${kind} ${name}`);
  if (differing.length > 0) {
    const [verb, pronoun] = differing.length === 1 ? ["is", "it is"] : ["are", "they are"];
    remarks.push(
      ` ${differing.slice(0, 8).join(", ")} ${verb} not as in the backup, and ${pronoun} left as ${pronoun}.`,
    );
  }
  const state = entries.find(({ kind }) => kind === "PersistentVolumeClaim");
  const hasState = carriesState(observed);
  if (state?.state === "Created" && hasState && observed.spec.virtualMachine.firmwareIdentity === "Regenerate")
    remarks.push(" Its TPM begins empty: what a TPM holds belongs to the firmware's UUID, which is a new one.");
  if (state?.state === "Created" && !hasState) {
    const copied = stateToCopy(observed, made);
    remarks.push(
      copied === undefined
        ? " The backup holds no TPM or firmware state: the machine begins with an empty one."
        : ` The backup holds no TPM or firmware state: the machine begins with a copy of what the old one had (${copied}).`,
    );
  }
  if (state?.state === "Found") remarks.push(` Its TPM and firmware state is what claim ${state.name} held already.`);
  return remarks.join("");
}

/** Sentences about a machine that cannot be made because of what it refers to. */
export function missingMessage(missing: readonly ObservedReference[]): { reason: string; message: string } {
  const revision = missing.find(({ kind }) => kind === "ControllerRevision");
  if (revision !== undefined) {
    return {
      reason: "RevisionNotFound",
      message: `ControllerRevision ${revision.original?.name ?? revision.name}, which tells the machine's instancetype or preference as it was, is neither in the snapshot nor in this namespace. Put it back, or take what the cluster has now: spec.virtualMachine.instancetypeRevisions: Current.`,
    };
  }
  const names = missing.map(({ kind, name }) => `${kind} ${name}`);
  const [what, pronoun] = names.length === 1 ? ["is", "it"] : ["are", "them"];
  return {
    reason: "ReferenceNotFound",
    message: `${names.slice(0, 8).join(", ")}, which the machine needs, ${what} neither in the snapshot nor in this namespace. Create ${pronoun}.`,
  };
}

function metadataOf({ restore }: Observed, name: string, labels: Record<string, string> = {}) {
  return { name, namespace: restore.metadata.namespace ?? "", labels: { ...restoreLabels(restore), ...labels } };
}

function objectOf(observed: Observed, { kind, name, content }: Carried): Manifest {
  if (kind !== "ControllerRevision")
    return { apiVersion: "v1", kind, metadata: metadataOf(observed, name), ...content };
  const data = at(content, "data");
  // No label of its own: by one a StatefulSet could take it for a revision of its pods.
  const labels = {
    [`${INSTANCETYPE_LABELS}-kind`]: String(data.kind),
    [`${INSTANCETYPE_LABELS}-name`]: String(at(data, "metadata").name).slice(0, 63),
    [`${INSTANCETYPE_LABELS}-version`]: String(data.apiVersion).split("/").at(-1) ?? "",
  };
  return { apiVersion: "apps/v1", kind, metadata: metadataOf(observed, name, labels), ...content };
}

/**
 * The claim for TPM and firmware state, made before the first start. KubeVirt, left to itself, may look for a class at the claims of
 * the machine's disks, and those that a media agent serves have none.
 */
function stateClaim(observed: Observed): Manifest {
  const { restore, spec, old } = observed;
  const { name } = spec.virtualMachine;
  const { storageClassName, accessMode = "ReadWriteOnce" } = spec.relocation.target;
  return {
    apiVersion: "v1",
    kind: "PersistentVolumeClaim",
    // Beside a machine that is replaced, KubeVirt must not find it yet.
    metadata: metadataOf(observed, stateClaimName(restore, spec), old === undefined ? { [STATE_LABEL]: name } : {}),
    spec: {
      accessModes: [accessMode],
      volumeMode: "Filesystem",
      ...(storageClassName === undefined ? {} : { storageClassName }),
      resources: { requests: { storage: STATE_SIZE } },
    },
  };
}

/** Takes away what was made for a machine that is not to be any more. */
export function removeReferences(observed: Observed): Action[] {
  const { stateJob, stateSecret } = observed;
  return [
    ...removeIfThere(JOBS, stateJob),
    ...removeIfThere(SECRETS, stateSecret),
    ...removalsOf(observed, () => true),
  ];
}

function removalsOf({ restore, references }: Observed, which: (reference: ObservedReference) => boolean): Action[] {
  return references
    .filter(which)
    .flatMap(({ kind, present }) => (isOurs(restore, present) ? removeIfThere(REFERENCE_TYPES[kind], present) : []));
}
