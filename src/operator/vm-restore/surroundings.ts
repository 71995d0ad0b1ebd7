import type { ConditionDraft } from "../conditions.ts";
import { NAMESPACES, type Namespace, RESOURCE_QUOTAS, type ResourceQuota } from "../kinds.ts";
import type { AccessRule, AccessRules } from "../runtime/access-rules.ts";
import type { Cluster } from "../runtime/cluster.ts";
import type { Observed } from "./observed.ts";
import type { Plan } from "./plan.ts";
import { plannedObjects } from "./planned-objects.ts";
import { quotaProblem } from "./quota.ts";
import { missingRights } from "./rights.ts";
import { no } from "./step.ts";

/** The namespaces in which a restore makes something, as far as they may refuse it. */
export interface Surroundings {
  readonly namespace: Namespace | undefined;
  /** Of the machine's namespace and of the operator's. */
  readonly quotas: readonly ResourceQuota[];
  /** What the operator may do, by namespace; those of which nothing is known are left out. */
  readonly rules: ReadonlyMap<string, readonly AccessRule[]>;
}

/** Read only before anything is made. */
export async function observeSurroundings(
  cluster: Pick<Cluster, "get" | "list">,
  namespace: string,
  own: string,
  access: AccessRules | undefined,
): Promise<Surroundings> {
  const [found, quotas, ownQuotas, rules] = await Promise.all([
    cluster.get(NAMESPACES, undefined, namespace),
    cluster.list(RESOURCE_QUOTAS, namespace),
    namespace === own ? [] : cluster.list(RESOURCE_QUOTAS, own),
    Promise.all([...new Set([namespace, own])].map(async (each) => [each, await access?.in(each)] as const)),
  ]);
  return {
    namespace: found,
    quotas: [...quotas, ...ownQuotas],
    rules: new Map(rules.flatMap(([each, known]) => (known === undefined ? [] : [[each, known] as const]))),
  };
}

/** A namespace that goes, one in which the operator may not do what it has to, or one whose quota does not have room for everything that the restore is going to make. */
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
  // what the operator may not do → RightsMissing
  for (const [each, rules] of surroundings.rules) {
    const missing = missingRights(
      rules,
      objects.filter((object) => object.namespace === each),
      observed.spec.replace !== undefined && each === namespace,
    );
    if (missing.length === 0) continue;
    const message = `The operator may not do in namespace ${each} what this restore needs: ${missing.join(", ")}. Bind its ClusterRole there, as the chart does for the whole cluster.`;
    return no("TargetReady", "RightsMissing", message);
  }
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
