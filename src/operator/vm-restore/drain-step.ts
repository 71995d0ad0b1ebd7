import { LABELS } from "../../api/group.ts";
import type { VMRestore } from "../../api/vm-restore.ts";
import { create, remove } from "../actions.ts";
import { type ConditionDraft, conditionOf } from "../conditions.ts";
import { DISRUPTION_BUDGETS } from "../kinds.ts";
import type { Manifest } from "../runtime/objects.ts";
import type { OperatorSettings } from "../settings.ts";
import { boundBy, MOVABLE } from "./agent-place.ts";
import { restoreLabels, restoreNames } from "./names.ts";
import { conditionsBefore, type Observed } from "./observed.ts";
import { no, type Outcome, passed, yes } from "./step.ts";

/**
 * What a drain of the agent's node comes to (decision 0041). An agent that can go elsewhere is evicted like any pod: its guest waits for
 * as long as it moves. One that cannot would leave its guest without a disk until the node is back: a budget holds the drain for as long
 * as anything uses the disks.
 */
export function holdDrains(observed: Observed): Outcome {
  const { place, spec, restore, settings } = observed;
  if (place === undefined) return passed();
  const { nodeName, budget } = place;
  if (nodeName === undefined) return passed();
  const known = restore.status?.mediaAgent;
  const status = known === undefined ? {} : { mediaAgent: { ...known, node: nodeName } };
  // looked at before, and found to be movable
  const before = conditionOf(conditionsBefore(observed), MOVABLE);
  if (place.volumes.length === 0) return { ...passed(...(before === undefined ? [] : [before])), status };
  const claim = boundBy(place, spec.mediaAgent.nodeSelector);
  const isHeld = claim !== undefined && isInUse(observed);
  const told = passed(claim === undefined ? movable(nodeName) : bound(observed, claim, nodeName, isHeld));
  if (isHeld && budget === undefined) {
    const actions = [create(DISRUPTION_BUDGETS, agentBudget(restore, settings))];
    return { ...told, status, passes: false, actions };
  }
  if (!isHeld && budget !== undefined && budget.metadata.deletionTimestamp === undefined)
    return { ...told, status, passes: false, actions: [remove(DISRUPTION_BUDGETS, budget)] };
  return { ...told, status };
}

/** A machine that runs, what mounts its disks, or a copy of them. */
function isInUse({ instance, mountingPods, job }: Observed): boolean {
  return instance !== undefined || mountingPods.length > 0 || job !== undefined;
}

function movable(node: string): ConditionDraft {
  const message = `The media agent is on node ${node} and can go to others: when that is drained, it moves, and the machine waits meanwhile.`;
  return yes(MOVABLE, "Movable", message);
}

function bound({ spec, settings, place }: Observed, claim: string, node: string, isHeld: boolean): ConditionDraft {
  const why = `The media agent cannot leave node ${node}: claim ${claim} in namespace ${settings.namespace} can be reached from there only.`;
  if (!isHeld)
    return no(MOVABLE, "BoundToNode", `${why} Nothing uses its disks at the moment: the node may be drained.`);
  const { name } = spec.virtualMachine;
  const out = `It goes on when VirtualMachine ${name} is stopped or has moved to its target. To drain all the same, with the machine standing still until the node is back, delete the media agent's pod yourself.`;
  if (place?.node?.spec?.unschedulable === true)
    return no(MOVABLE, "DrainHeld", `${why} The node is cordoned; its drain is held. ${out}`);
  return no(MOVABLE, "BoundToNode", `${why} A drain of the node would be held. ${out}`);
}

/** No voluntary disruption of the agent: `kubectl drain` waits, and says which budget it waits for. */
function agentBudget(restore: VMRestore, settings: OperatorSettings): Manifest {
  const labels = restoreLabels(restore);
  const name = "vmrestore-media-agent";
  return {
    apiVersion: "policy/v1",
    kind: "PodDisruptionBudget",
    metadata: { name: restoreNames(restore, "").agent, namespace: settings.namespace, labels },
    spec: {
      maxUnavailable: 0,
      selector: { matchLabels: { [LABELS.restoreUid]: labels[LABELS.restoreUid], "app.kubernetes.io/name": name } },
    },
  };
}
