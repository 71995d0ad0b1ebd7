import { type Action, remove } from "../actions.ts";
import { conditionOf } from "../conditions.ts";
import { CLAIMS, JOBS, SECRETS, SERVICES, STATEFUL_SETS, VOLUMES } from "../kinds.ts";
import type { KubernetesObject, ResourceType } from "../runtime/objects.ts";
import { isOurs } from "./names.ts";
import { conditionsBefore, type Observed } from "./observed.ts";

/** How long a silent agent is waited for, to take its pin out of the repository. */
const UNPIN_MS = 120_000;

export interface Teardown {
  readonly actions: readonly Action[];
  readonly done: boolean;
  readonly message: string;
}

type Found = readonly [ResourceType, KubernetesObject];

/**
 * Removes the agent, after everything that mounts its disks: an agent that goes first leaves hung mounts on the nodes. Pods gone →
 * claims → volumes → pin → agent → its claims and keys → the plan, last, because all the others are found by it.
 */
export function tearDown(observed: Observed): Teardown {
  const { mountingPods, disks, restore } = observed;
  if (mountingPods.length > 0) {
    return {
      actions: [],
      done: false,
      message: `Pod ${mountingPods[0]?.metadata.name} still mounts a disk of the media agent.`,
    };
  }
  const stages: (readonly [string, readonly Found[]])[] = [
    ["claims", disks.flatMap(({ claim }) => found(CLAIMS, isOurs(restore, claim) ? claim : undefined))],
    ["volumes", disks.flatMap(({ volume }) => found(VOLUMES, isOurs(restore, volume) ? volume : undefined))],
    [
      "relocation Job",
      [...found(JOBS, observed.job), ...found(SECRETS, observed.jobSecret), ...found(JOBS, observed.inspection.job)],
    ],
  ];
  for (const [what, objects] of stages) {
    if (objects.length > 0)
      return { actions: deletions(objects), done: false, message: `The media agent's ${what} are being removed.` };
  }
  const pin = removePin(observed);
  if (pin !== undefined) return pin;
  if (observed.statefulSet !== undefined || observed.agentPods.length > 0) {
    return {
      actions: deletions(found(STATEFUL_SETS, observed.statefulSet)),
      done: false,
      message: "The media agent is being stopped.",
    };
  }
  const rest = [
    ...found(SERVICES, observed.service),
    ...found(SECRETS, observed.keys),
    ...found(SECRETS, observed.tls),
    ...found(CLAIMS, observed.overlay),
    ...found(CLAIMS, observed.cache),
  ];
  if (rest.length > 0)
    return { actions: deletions(rest), done: false, message: "The media agent's claims and keys are being removed." };
  const plan = found(SECRETS, observed.planSecret);
  return { actions: deletions(plan), done: plan.length === 0, message: "The media agent is gone." };
}

function removePin({ statefulSet, agent, now, restore, ...observed }: Observed): Teardown | undefined {
  if (statefulSet === undefined || statefulSet.metadata.deletionTimestamp !== undefined) return undefined;
  const message = "The snapshot's pin is being removed from the repository.";
  if (agent.status?.repository.pinned === true) {
    return { actions: [{ do: "agent", what: "unpin", call: (control) => control.unpin() }], done: false, message };
  }
  if (agent.status !== undefined) return undefined;
  const since = conditionOf(conditionsBefore({ restore, statefulSet, agent, now, ...observed }), "TornDown");
  if (since !== undefined && now - Date.parse(since.lastTransitionTime) > UNPIN_MS) return undefined;
  return {
    actions: [],
    done: false,
    message: `${message} The media agent does not answer: ${agent.problem ?? "no reason known"}.`,
  };
}

function found(type: ResourceType, object: KubernetesObject | undefined): Found[] {
  return object === undefined ? [] : [[type, object]];
}

/** What is being deleted already is only waited for. */
function deletions(objects: readonly Found[]): Action[] {
  return objects.flatMap(([type, object]) =>
    object.metadata.deletionTimestamp === undefined ? [remove(type, object)] : [],
  );
}
