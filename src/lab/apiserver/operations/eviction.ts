import { arrayAt, copyJson, isObject, type JsonObject, numberAt, objectAt, stringAt } from "../json.ts";
import { formatTime, type KubeObject } from "../object.ts";
import type { ResourceDefinition } from "../registry/definition.ts";
import { type LabelSelector, selects } from "../selectors/object-selector.ts";
import { badRequest, StatusError } from "../status-error.ts";
import type { Cluster, DeleteOptions } from "./context.ts";
import { deleteObject } from "./deleter.ts";
import { readObject } from "./reader.ts";

const BUDGETS = "policy/poddisruptionbudgets";

/**
 * The `eviction` subresource of a pod: deletion, where no PodDisruptionBudget forbids it. What the budget allows was worked out by
 * the disruption controller; here it is counted down, so that two evictions at once do not both use the last one.
 *
 * @throws StatusError 429 TooManyRequests, which `kubectl drain` waits at; 500 where two budgets select the pod
 */
export function evict(
  cluster: Cluster,
  definition: ResourceDefinition,
  key: { readonly namespace: string; readonly name: string },
  eviction: JsonObject,
  options: DeleteOptions,
): void {
  const named = stringAt(eviction, "metadata", "name");
  if (named !== "" && named !== key.name) throw badRequest("name in URL does not match name in Eviction object");
  const pod = readObject(cluster.store, definition, key.namespace, key.name);
  if (!isDisrupted(pod)) useBudget(cluster, pod, options.dryRun);
  deleteObject(cluster, definition, key, options);
}

/** What does not run, or ends already, is disrupted as it is: no budget is asked. */
function isDisrupted(pod: KubeObject): boolean {
  const phase = stringAt(pod, "status", "phase");
  return pod.metadata.deletionTimestamp !== undefined || ["Pending", "Succeeded", "Failed"].includes(phase);
}

function useBudget(cluster: Cluster, pod: KubeObject, dryRun: boolean): void {
  const { namespace = "", name = "", labels = {} } = pod.metadata;
  const budgets = cluster.store
    .list(BUDGETS, namespace)
    .filter((budget) => selects(objectAt(budget, "spec", "selector") as LabelSelector, labels));
  const [budget, other] = budgets;
  if (budget === undefined) return;
  if (other !== undefined) {
    const why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
    throw new StatusError(500, "InternalError", why);
  }
  const status = objectAt(budget, "status");
  const count = (field: string): number => numberAt(status, field) ?? 0;
  // What is not ready counts for nothing, as long as the others are enough.
  if (!isReady(pod) && count("desiredHealthy") > 0 && count("currentHealthy") >= count("desiredHealthy")) return;
  const budgetName = budget.metadata.name ?? "";
  if (count("observedGeneration") < (budget.metadata.generation ?? 0))
    throw refusal(`The disruption budget ${budgetName} is still being processed by the server.`, 10);
  if (count("disruptionsAllowed") <= 0) {
    const needs = `needs ${count("desiredHealthy")} healthy pods and has ${count("currentHealthy")} currently`;
    throw refusal(`The disruption budget ${budgetName} ${needs}`);
  }
  if (dryRun) return;
  const used = copyJson(budget);
  used.status = {
    ...status,
    disruptionsAllowed: count("disruptionsAllowed") - 1,
    disruptedPods: { ...objectAt(status, "disruptedPods"), [name]: formatTime(cluster.clock.now()) },
  };
  cluster.store.put(BUDGETS, used);
}

function isReady(pod: KubeObject): boolean {
  return arrayAt(pod, "status", "conditions").some(
    (condition) => isObject(condition) && condition.type === "Ready" && condition.status === "True",
  );
}

function refusal(cause: string, retryAfterSeconds?: number): StatusError {
  const message = "Cannot evict pod as it would violate the pod's disruption budget.";
  return new StatusError(429, "TooManyRequests", message, {
    ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
    causes: [{ reason: "DisruptionBudget", message: cause }],
  });
}
