import { selects } from "../apiserver/selectors/object-selector.ts";
import { isReady } from "./job.ts";
import { DISRUPTION_BUDGETS, type DisruptionBudget, PODS, type Pod, STATEFUL_SETS, type StatefulSet } from "./kinds.ts";
import { isControlledBy, type LabContext, runLabController } from "./lab-controller.ts";

/** A pod whose eviction was allowed and that is still there by then stays, it seems. */
const DISRUPTED_MS = 2 * 60_000;

export interface BudgetCounts {
  readonly expectedPods: number;
  readonly desiredHealthy: number;
  readonly currentHealthy: number;
  readonly disruptionsAllowed: number;
  readonly disruptedPods: Readonly<Record<string, string>>;
}

/**
 * What a budget allows (Kubernetes, "Specifying a Disruption Budget"). `maxUnavailable` counts from what the pods' StatefulSets want; of
 * other controllers the pods that there are.
 */
export function countBudget(
  { spec = {}, status }: DisruptionBudget,
  pods: readonly Pod[],
  sets: readonly StatefulSet[],
  now: number,
): BudgetCounts {
  const disrupted = Object.entries(status?.disruptedPods ?? {}).filter(
    ([name, at]) =>
      now - Date.parse(at) < DISRUPTED_MS &&
      pods.some(({ metadata }) => metadata.name === name && metadata.deletionTimestamp === undefined),
  );
  const isGoing = new Set(disrupted.map(([name]) => name));
  const owners = sets.filter((set) => pods.some((pod) => isControlledBy(pod, set)));
  const loose = pods.filter((pod) => !owners.some((set) => isControlledBy(pod, set)));
  const wanted = owners.reduce((sum, set) => sum + (set.spec.replicas ?? 1), loose.length);
  const expectedPods = typeof spec.minAvailable === "number" ? pods.length : wanted;
  const desiredHealthy =
    spec.maxUnavailable === undefined
      ? part(spec.minAvailable ?? 0, expectedPods)
      : Math.max(0, expectedPods - part(spec.maxUnavailable, expectedPods));
  const currentHealthy = pods.filter(
    (pod) => isReady(pod) && pod.metadata.deletionTimestamp === undefined && !isGoing.has(pod.metadata.name),
  ).length;
  const disruptionsAllowed = expectedPods === 0 ? 0 : Math.max(0, currentHealthy - desiredHealthy);
  return {
    expectedPods,
    desiredHealthy,
    currentHealthy,
    disruptionsAllowed,
    disruptedPods: Object.fromEntries(disrupted),
  };
}

/** A number, or a percentage, rounded up. */
function part(value: number | string, of: number): number {
  return typeof value === "number" ? value : Math.ceil((of * Number.parseFloat(value)) / 100);
}

/** Keeps the status of PodDisruptionBudgets, which evictions are allowed by. */
export function runDisruptionController(context: LabContext, signal: AbortSignal): Promise<void> {
  const { cluster, clock } = context;
  const reconcile = async (namespace: string): Promise<undefined> => {
    const budgets = await cluster.list(DISRUPTION_BUDGETS, namespace);
    if (budgets.length === 0) return;
    const pods = await cluster.list(PODS, namespace);
    const sets = await cluster.list(STATEFUL_SETS, namespace);
    for (const budget of budgets) {
      const selected = pods.filter(
        ({ metadata, status }) =>
          selects(budget.spec?.selector, metadata.labels) &&
          status?.phase !== "Succeeded" &&
          status?.phase !== "Failed",
      );
      await tell(context, budget, countBudget(budget, selected, sets, clock.now()));
    }
  };
  const ofNamespace = ({ metadata }: { metadata: { namespace?: string } }): string[] => [`${metadata.namespace}/all`];
  const watches = [
    { type: DISRUPTION_BUDGETS, keys: ofNamespace },
    { type: PODS, keys: ofNamespace },
    { type: STATEFUL_SETS, keys: ofNamespace },
  ];
  return runLabController({ name: "disruption", watches, reconcile }, context, signal);
}

async function tell({ cluster, clock }: LabContext, budget: DisruptionBudget, counts: BudgetCounts): Promise<void> {
  const { name, namespace, uid, generation = 1, resourceVersion } = budget.metadata;
  const isAllowed = counts.disruptionsAllowed > 0;
  const before = budget.status?.conditions?.find(({ type }) => type === "DisruptionAllowed");
  const status = isAllowed ? "True" : "False";
  const condition = {
    type: "DisruptionAllowed",
    status,
    reason: isAllowed ? "SufficientPods" : "InsufficientPods",
    message: "",
    observedGeneration: generation,
    lastTransitionTime: before?.status === status ? before.lastTransitionTime : new Date(clock.now()).toISOString(),
  };
  // An eviction that came between is not undone: then this is a conflict, and it is counted anew.
  await cluster.applyStatus(DISRUPTION_BUDGETS, {
    apiVersion: "policy/v1",
    kind: "PodDisruptionBudget",
    metadata: { name, namespace, uid, resourceVersion } as never,
    status: { observedGeneration: generation, ...counts, conditions: [condition] },
  });
}
