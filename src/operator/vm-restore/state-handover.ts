import { type Action, remove, removeIfThere } from "../actions.ts";
import { CLAIMS, type Claim, JOBS } from "../kinds.ts";
import { type Manifest, stands } from "../runtime/objects.ts";
import { isOurs, SET_ASIDE_LABEL, STATE_LABEL } from "./names.ts";
import type { Observed } from "./observed.ts";
import { acts, no, type Outcome, passed, waits } from "./step.ts";

// TPM and firmware state when a machine takes another one's place. KubeVirt takes any claim of the namespace that bears the machine's
// name in a label, unless it is being deleted, so two machines that follow one another under one name must never both have such a claim. The
// label goes from one claim to the other while neither machine is there; the claims themselves, and what is on them, stay as they are.

const POLL_MS = 1000;
const PUTTING_BACK = no(
  "PutBack",
  "PuttingBack",
  "The old machine's TPM and firmware state is being put in its place.",
);

/**
 * The old machine's state is set aside, and the restored one's takes its place. To be called when the old machine is gone; passes when
 * KubeVirt can find the restored one's claim only.
 */
export function takeOverState(observed: Observed): Outcome {
  const { restore, spec, old, references } = observed;
  if (old === undefined) return passed();
  const { name } = spec.virtualMachine;
  const others = old.stateClaims.filter((claim) => stands(claim) && !isOurs(restore, claim));
  const actions = others.map((claim) =>
    labelled(claim, { [STATE_LABEL]: undefined, [SET_ASIDE_LABEL]: restore.metadata.uid }),
  );
  for (const { kind, present } of references) {
    if (kind !== "PersistentVolumeClaim" || present === undefined || !isOurs(restore, present)) continue;
    if (present.metadata.labels?.[STATE_LABEL] !== name)
      actions.push(labelled(present as Claim, { [STATE_LABEL]: name }));
  }
  if (actions.length === 0) return passed();
  return acts(
    actions,
    no("VirtualMachineCreated", "Replacing", "The old machine's TPM and firmware state is being set aside."),
  );
}

/**
 * The other way round, when the restored machine is gone and the old one is not there yet: the restored one's state goes with it. Passes
 * when KubeVirt can find the old one's claim only.
 */
export function giveStateBack(observed: Observed): Outcome {
  const { restore, spec, old, stateJob } = observed;
  if (old === undefined) return passed();
  // It mounts the old one's claim, perhaps on another node.
  if (stateJob !== undefined) return { ...acts(removeIfThere(JOBS, stateJob), PUTTING_BACK), againMs: POLL_MS };
  const { name } = spec.virtualMachine;
  const kept = new Set(old.setAside.map(({ metadata }) => metadata.name));
  const others = old.stateClaims.filter((claim) => stands(claim) && !kept.has(claim.metadata.name));
  const ours = others.filter((claim) => isOurs(restore, claim));
  const actions = [
    ...ours.map((claim) => remove(CLAIMS, claim)),
    ...old.setAside
      .filter(({ metadata }) => metadata.labels?.[STATE_LABEL] !== name)
      .map((claim) => labelled(claim, { [STATE_LABEL]: name })),
  ];
  if (actions.length > 0) return acts(actions, PUTTING_BACK);
  // One that KubeVirt made for the restored machine goes with it; of any other, somebody has to say what it is.
  const [other] = others;
  if (other === undefined || kept.size === 0) return passed();
  const message = `Claim ${other.metadata.name} goes by the machine's name, and does not hold the old machine's TPM and firmware state. If it does not go with the restored machine, delete it, or take its label ${STATE_LABEL} off.`;
  return waits(no("PutBack", "Waiting", message), POLL_MS);
}

/** The old machine is there again: nothing tells its claims from others any more. */
export function forgetSetAside({ old }: Observed): Action[] {
  return (old?.setAside ?? []).map((claim) => labelled(claim, { [SET_ASIDE_LABEL]: undefined }));
}

/** The names of the claims that hold the old machine's state, for its users. */
export function oldStateClaims({ restore, old }: Pick<Observed, "restore" | "old">): string[] {
  return (old?.stateClaims ?? [])
    .filter((claim) => stands(claim) && !isOurs(restore, claim))
    .map(({ metadata }) => metadata.name)
    .sort();
}

/** A claim with other labels, and nothing else changed: the claim that was read, or none. What is undefined goes. */
function labelled(claim: Claim, change: Readonly<Record<string, string | undefined>>): Action {
  const labels = Object.fromEntries(
    Object.entries({ ...claim.metadata.labels, ...change }).filter(([, value]) => value !== undefined),
  );
  const object = { ...claim, metadata: { ...claim.metadata, labels } };
  return { do: "replace", type: CLAIMS, object: object as unknown as Manifest };
}
