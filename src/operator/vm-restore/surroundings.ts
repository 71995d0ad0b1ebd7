import type { ConditionDraft } from "../conditions.ts";
import { NAMESPACES, type Namespace, RESOURCE_QUOTAS, type ResourceQuota } from "../kinds.ts";
import type { Cluster } from "../runtime/cluster.ts";
import type { Observed } from "./observed.ts";
import type { Plan } from "./plan.ts";
import { plannedObjects } from "./planned-objects.ts";
import { quotaProblem } from "./quota.ts";
import { no } from "./step.ts";

/** The namespaces in which a restore makes something, as far as they may refuse it. */
export interface Surroundings {
  readonly namespace: Namespace | undefined;
  /** Of the machine's namespace and of the operator's. */
  readonly quotas: readonly ResourceQuota[];
}

/** Read only before anything is made. */
export async function observeSurroundings(
  cluster: Pick<Cluster, "get" | "list">,
  namespace: string,
  own: string,
): Promise<Surroundings> {
  const [found, quotas, ownQuotas] = await Promise.all([
    cluster.get(NAMESPACES, undefined, namespace),
    cluster.list(RESOURCE_QUOTAS, namespace),
    namespace === own ? [] : cluster.list(RESOURCE_QUOTAS, own),
  ]);
  return { namespace: found, quotas: [...quotas, ...ownQuotas] };
}

/** A namespace that goes, or one whose quota does not have room for everything that the restore is going to make. */
export function checkSurroundings(observed: Observed, plan: Plan): ConditionDraft | undefined {
  const { surroundings, restore, settings } = observed;
  if (surroundings === undefined) return undefined;
  const namespace = restore.metadata.namespace ?? "";
  // nothing can be made in it → NamespaceTerminating
  if (surroundings.namespace?.metadata.deletionTimestamp !== undefined) {
    const message = `Namespace ${namespace} is being deleted: no machine can be made in it. Restore into another one.`;
    return no("TargetReady", "NamespaceTerminating", message);
  }
  const objects = plannedObjects(observed, plan);
  // no room → QuotaExceeded
  for (const each of new Set([namespace, settings.namespace])) {
    const problem = quotaProblem(
      surroundings.quotas.filter(({ metadata }) => metadata.namespace === each),
      objects.filter((object) => object.namespace === each),
    );
    if (problem !== undefined) return no("TargetReady", "QuotaExceeded", problem);
  }
  return undefined;
}
