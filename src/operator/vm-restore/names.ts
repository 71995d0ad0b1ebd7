import { createHash } from "node:crypto";
import { LABELS } from "../../api/group.ts";
import type { VMRestore, VMRestoreSpec } from "../../api/vm-restore.ts";

/** KubeVirt finds the claim with a machine's TPM and firmware state by this label, whose value is the machine's name. */
export const STATE_LABEL = "persistent-state-for";
/** On a claim with the state of a machine whose place was taken: the uid of the VMRestore. It bears {@link STATE_LABEL} no more. */
export const SET_ASIDE_LABEL = "vmrestore.io/state-set-aside-by";

/** Names of what a restore makes. Those in the operator's namespace bear the uid, so that no two restores ever meet. */
export function restoreNames(restore: VMRestore, machine: string) {
  const base = `vmr-${restore.metadata.uid}`;
  return {
    agent: base,
    /** The Job that looks into one of the snapshots. */
    inspection: (source: number) => (source === 0 ? `${base}-inspect` : `${base}-inspect-${source}`),
    plan: `${base}-plan`,
    keys: `${base}-keys`,
    tls: `${base}-tls`,
    overlay: `${base}-overlay`,
    cache: `${base}-cache`,
    /** The PersistentVolume and, in the machine's namespace, the claim of a disk while it is served by the agent. */
    served: (disk: string) => ({ volume: `${base}-${disk}`, claim: `${machine}-${disk}-restoring` }),
    target: (disk: string) => `${machine}-${disk}`,
    relocation: `${base}-copy`,
    /** In the machine's namespace: the manifest of the machine whose place the restored one takes. */
    replaced: `${base}-replaced`,
    /** The restored machine's own copy of a ControllerRevision: the original goes with the machine that it was made for. */
    revision: (original: string) =>
      `${machine}-${createHash("sha256").update(`${restore.metadata.uid}/${original}`).digest("hex").slice(0, 16)}`,
    /** The Job that fills the claim with TPM and firmware state, and its certificate. */
    stateJob: `${base}-state`,
    profile: machine,
  } as const;
}

/**
 * Where KubeVirt keeps the machine's TPM and firmware variables. It finds the claim by its label, or else by the first of these names. The
 * second is for a machine that takes the place of another, which has a claim of its own.
 */
export function stateClaimName(restore: VMRestore, { virtualMachine, replace }: VMRestoreSpec): string {
  const name = `${STATE_LABEL}-${virtualMachine.name}`;
  return replace === undefined ? name : `${name}-${restore.metadata.uid}`;
}

/** On everything that a restore makes. */
export function restoreLabels(restore: VMRestore): Record<string, string> {
  const { uid, name, namespace } = restore.metadata;
  return {
    [LABELS.restoreUid]: uid ?? "",
    // A label's value is shorter than a name may be.
    [LABELS.restoreName]: name.slice(0, 63).replace(/[^a-z0-9]+$/, ""),
    [LABELS.restoreNamespace]: namespace ?? "",
  };
}

/** Whether the restore made it. What it did not make is never changed or deleted. */
export function isOurs(
  restore: VMRestore,
  object: { metadata: { labels?: Record<string, string> } } | undefined,
): boolean {
  return object !== undefined && object.metadata.labels?.[LABELS.restoreUid] === restore.metadata.uid;
}
