import { type ConditionDraft, conditionOf } from "../conditions.ts";
import { isHeldBack, ROLLBACK_ANNOTATIONS, wasRolledBack } from "./cutover-state.ts";
import { conditionsBefore, type Observed } from "./observed.ts";
import { no, yes } from "./step.ts";

/** How relocation stands after the machine was taken back, or would be at once: an automatic one would be cut over again and again. */
export function heldBack(observed: Observed): ConditionDraft {
  const { spec } = observed;
  if (!wasRolledBack(observed)) {
    const decided =
      "The machine stays on the media agent: spec.relocation.trial.decision is RollBack, so it would be taken back there at once. To relocate it, remove spec.relocation.trial.decision; to keep it there, set spec.relocation.strategy to None.";
    return no("Relocated", "RollBackDecided", decided);
  }
  const how =
    spec.relocation.trial?.decision === "RollBack"
      ? "remove spec.relocation.trial.decision"
      : "set spec.relocation.trial.onExpiry to Commit or Wait";
  const message = `The machine was taken back to the media agent and runs from there. To relocate it anew, ${how}; to keep it there, set spec.relocation.strategy to None.`;
  return no("Relocated", "RolledBack", message);
}

/** What is to be said of a machine that was taken back: once it is so, and once its target is written anew. */
export function afterRollback(observed: Observed): ConditionDraft[] {
  const { machine, disks } = observed;
  const before = conditionsBefore(observed);
  const annotations = machine?.metadata.annotations ?? {};
  if (!wasRolledBack(observed)) return [];
  if (conditionOf(before, "CutOver")?.reason === "RollingBack") {
    const since = annotations[ROLLBACK_ANNOTATIONS.lostSince];
    const claims = disks.map(({ target }) => target.claimName).join(", ");
    const loss =
      since === undefined
        ? "It never ran from its target, so nothing is lost."
        : `What it wrote on its target since ${since} is lost to it; claim ${claims} keeps that until relocation begins anew.`;
    return [
      no("CutOver", "RolledBack", "The machine was taken back to the media agent."),
      no("Committed", "RolledBack", "The machine was taken back to the media agent."),
      yes("RolledBack", "RolledBack", `The machine was taken back to the media agent. ${loss}`),
    ];
  }
  if (conditionOf(before, "RolledBack")?.status !== "True" || isHeldBack(observed)) return [];
  return [no("RolledBack", "RelocatedAnew", "Relocation goes on, from the beginning.")];
}
