import { type Action, removeIfThere } from "../actions.ts";
import { type ConditionDraft, conditionOf } from "../conditions.ts";
import { CLAIMS, DISRUPTION_BUDGETS, JOBS, PODS, SECRETS, SERVICES, STATEFUL_SETS, VOLUMES } from "../kinds.ts";
import type { KubernetesObject, ResourceType } from "../runtime/objects.ts";
import { isOurs } from "./names.ts";
import { conditionsBefore, type Observed } from "./observed.ts";
import { isOwnServed } from "./own-claims.ts";
import { acts, no, type Outcome, passed, waits, yes } from "./step.ts";

/** How long a silent agent is waited for, to take its pin out of the repository. */
const UNPIN_MS = 120_000;
const PIN_REMOVED = "PinRemoved";
const PIN_GONE = yes(PIN_REMOVED, "Removed", "Nothing of this restore is left in the repository.");

export interface Teardown {
  readonly actions: readonly Action[];
  readonly done: boolean;
  readonly message: string;
  readonly conditions: readonly ConditionDraft[];
}

type Found = readonly [ResourceType, KubernetesObject];

/**
 * Removes the agent, after everything that mounts its disks: an agent that goes first leaves hung mounts on the nodes. Pods gone, those that have ended too →
 * claims → volumes → pin → agent → its claims and keys → the plan, last, because all the others are found by it.
 */
export function tearDown(observed: Observed): Teardown {
  const { mountingPods, endedPods, disks, restore } = observed;
  if (mountingPods.length > 0)
    return going([], `Pod ${mountingPods[0]?.metadata.name} still mounts a disk of the media agent.`);
  const stages: (readonly [string, readonly Found[]])[] = [
    // A live migration leaves the source's launcher behind for as long as the machine runs.
    ["The machine's ended launcher pods are being removed.", endedPods.flatMap((pod) => found(PODS, pod))],
    [
      "The media agent's claims are being removed.",
      disks.flatMap((disk) => found(CLAIMS, isOwnServed(restore, disk) ? disk.claim : undefined)),
    ],
    [
      "The media agent's volumes are being removed.",
      disks.flatMap(({ volume }) => found(VOLUMES, isOurs(restore, volume) ? volume : undefined)),
    ],
    [
      "What relocation left is being removed.",
      [
        ...found(JOBS, observed.job),
        ...found(SECRETS, observed.jobSecret),
        ...observed.inspectionJobs.flatMap((job) => found(JOBS, job)),
      ],
    ],
  ];
  for (const [what, objects] of stages) {
    if (objects.length > 0) return going(deletions(objects), what);
  }
  const pin = removePin(observed);
  if (!pin.passes) return going(pin.actions ?? [], pin.conditions?.[0]?.message ?? "", pin.conditions);
  if (observed.statefulSet !== undefined || observed.agentPods.length > 0) {
    const actions = deletions(found(STATEFUL_SETS, observed.statefulSet));
    return going(actions, "The media agent is being stopped.", pin.conditions);
  }
  const rest = [
    ...found(DISRUPTION_BUDGETS, observed.place?.budget),
    ...found(SERVICES, observed.service),
    ...found(SECRETS, observed.keys),
    ...found(SECRETS, observed.tls),
    ...found(CLAIMS, observed.overlay),
    ...found(CLAIMS, observed.cache),
  ];
  if (rest.length > 0)
    return going(deletions(rest), "The media agent's claims and keys are being removed.", pin.conditions);
  const plan = found(SECRETS, observed.planSecret);
  return { ...going(deletions(plan), "The restore's plan is being removed.", pin.conditions), done: plan.length === 0 };
}

function going(actions: readonly Action[], message: string, conditions: readonly ConditionDraft[] = []): Teardown {
  return { actions, done: false, message, conditions };
}

/** Takes the pin out of the repository. Has a condition of its own, which tells since when that is tried. */
function removePin(observed: Observed): Outcome {
  const { statefulSet, agent, now } = observed;
  const before = conditionOf(conditionsBefore(observed), PIN_REMOVED);
  const since = before?.status === "False" ? Date.parse(before.lastTransitionTime) : now;
  const isLate = now - since > UNPIN_MS;
  if (statefulSet === undefined || statefulSet.metadata.deletionTimestamp !== undefined) {
    // The agent was let go, and why was perhaps not written down.
    if (before?.reason !== "Removing") return passed();
    return passed(isLate ? leftBehind(observed) : PIN_GONE);
  }
  if (agent.status?.repository.pinned === false) return passed(PIN_GONE);
  const message = "The snapshot's pin is being removed from the repository.";
  if (agent.status !== undefined) {
    const unpin: Action = { do: "agent", what: "unpin", call: (control) => control.unpin() };
    return acts([unpin], no(PIN_REMOVED, "Removing", message));
  }
  if (isLate) return passed(leftBehind(observed));
  return waits(
    no(PIN_REMOVED, "Removing", `${message} The media agent does not answer: ${agent.problem ?? "no reason known"}.`),
    1000,
  );
}

function leftBehind({ restore }: Observed): ConditionDraft {
  const host = `vmrestore-pin-${restore.metadata.uid}`;
  const message = `The media agent did not answer, so a second snapshot of the same data may be left in the repository. \`restic snapshots --host ${host}\` lists it; remove it with \`restic forget\` and its id.`;
  return no(PIN_REMOVED, "LeftBehind", message);
}

function found(type: ResourceType, object: KubernetesObject | undefined): Found[] {
  return object === undefined ? [] : [[type, object]];
}

function deletions(objects: readonly Found[]): Action[] {
  return objects.flatMap(([type, object]) => removeIfThere(type, object));
}
