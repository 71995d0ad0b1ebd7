import type { ConditionDraft } from "../conditions.ts";
import { conditionOf } from "../conditions.ts";
import { ANYWHERE, nodesVerdict, type Scheduling } from "../node-check/nodes-verdict.ts";
import { isOurs } from "./names.ts";
import { conditionsBefore, type Observed } from "./observed.ts";
import type { Plan } from "./plan.ts";
import { recreated } from "./recreated.ts";
import { type Outcome, passed, waits } from "./step.ts";

const TYPE = "NodesReady";

/** What is known of the nodes, told from the beginning on; nothing waits for it. */
export function tellNodes(observed: Observed, plan: Plan): Outcome {
  const told = nodesCondition(observed, plan);
  return told === undefined ? passed() : passed(told);
}

/** Holds the machine's start back where no node can mount its disks: it would hang in ContainerCreating. */
export function awaitNodes(observed: Observed, plan: Plan): Outcome {
  const told = nodesCondition(observed, plan);
  return told?.status === "False" ? waits(told, 5000) : passed();
}

/** Undefined where nothing is known that is to be told. */
export function nodesCondition(observed: Observed, plan: Plan): ConditionDraft | undefined {
  const { checkedNodes, machine, restore } = observed;
  if (machine !== undefined && isOurs(restore, machine)) return undefined;
  const before = conditionOf(conditionsBefore(observed), TYPE);
  const held = before?.status === "False" ? before : undefined;
  if (checkedNodes === undefined) {
    const message = "The nodes are not looked at any more: nodeCheck.enabled of the chart is false.";
    return held === undefined ? undefined : { type: TYPE, status: "Unknown", reason: "NotChecked", message };
  }
  const verdict = checkedNodes === "Pending" ? undefined : nodesVerdict(checkedNodes, schedulingOf(observed, plan));
  // What was found to be wrong is so until something else is known: reports are just being renewed.
  if (verdict === undefined && held !== undefined)
    return { type: TYPE, status: "False", reason: held.reason, message: held.message };
  return verdict;
}

/** Whether nodes are just being looked at and none is known to be able. */
export function isAwaitingReports(observed: Observed, plan: Plan): boolean {
  return observed.checkedNodes !== undefined && nodesCondition(observed, plan) === undefined;
}

/** The media agent hands over a snapshot's manifest; until then nothing is known of where the machine may run. */
function schedulingOf(observed: Observed, plan: Plan): Scheduling {
  const made = recreated(observed, plan.disks)?.made;
  if (made === undefined || "problem" in made) return ANYWHERE;
  const { nodeSelector, affinity, tolerations } = made.machine.spec?.template?.spec ?? {};
  const nodeTerms = affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution;
  return { nodeSelector, nodeTerms, tolerations };
}
