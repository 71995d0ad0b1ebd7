import { API_VERSION } from "../../api/group.ts";
import type { VMRestore } from "../../api/vm-restore.ts";
import { conditionOf } from "../conditions.ts";
import { VM_PROFILES } from "../kinds.ts";
import type { KubernetesObject, Manifest } from "../runtime/objects.ts";
import { restoreNames } from "./names.ts";
import type { Observed } from "./observed.ts";
import { acts, type Outcome, passed } from "./step.ts";

/** uid of the VMRestore whose boot a profile was learned from last, and when its guest was ready. */
const LEARNED_FROM = "vmrestore.io/learned-from";
const LEARNED_AT = "vmrestore.io/learned-at";

/**
 * Whether a restore's boot is to be kept: it came about, and the profile has not learned from it or from a later one. Several restores of one
 * machine share a profile: if each only looked whether the last word was its own, two that run would take it from one another for ever.
 */
export function teaches(restore: VMRestore, profile: KubernetesObject | undefined): boolean {
  const readyAt = guestReadyAt(restore);
  if (readyAt === undefined) return false;
  const { [LEARNED_FROM]: from, [LEARNED_AT]: at = "" } = profile?.metadata.annotations ?? {};
  const uid = restore.metadata.uid ?? "";
  if (from === undefined || from === uid) return from === undefined;
  return readyAt === at ? uid > from : readyAt > at;
}

/** Keeps what was learned from this boot, for the next restore. Nothing waits for it. */
export function keepProfile({ restore, agent, profile, plan, spec }: Observed): Outcome {
  if (agent.profile === undefined || !teaches(restore, profile)) return passed();
  const name = restoreNames(restore, plan?.backedUpAs ?? spec.virtualMachine.name).profile;
  const object: Manifest = {
    apiVersion: API_VERSION,
    kind: "VMProfile",
    metadata: {
      name,
      namespace: restore.metadata.namespace ?? "",
      annotations: { [LEARNED_FROM]: restore.metadata.uid ?? "", [LEARNED_AT]: guestReadyAt(restore) ?? "" },
    },
    spec: agent.profile,
  };
  return acts([{ do: "apply", type: VM_PROFILES, object }]);
}

/** In ISO 8601, UTC: to be compared as text. */
function guestReadyAt(restore: VMRestore): string | undefined {
  const ready = conditionOf(restore.status?.conditions, "GuestReady");
  return ready?.status === "True" ? ready.lastTransitionTime : undefined;
}
