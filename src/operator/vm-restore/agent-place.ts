import type { Condition } from "../../api/common.ts";
import { conditionOf } from "../conditions.ts";
import {
  type Claim,
  DISRUPTION_BUDGETS,
  type DisruptionBudget,
  NODES,
  type Node,
  type Pod,
  VOLUMES,
  type Volume,
} from "../kinds.ts";
import type { ClusterReads } from "../runtime/cluster.ts";
import { matchesNodeTerms } from "../runtime/placement.ts";

/** Whether the agent can go to another node. */
export const MOVABLE = "AgentMovable";

/** What a decision about drains is made from. */
export interface AgentPlace {
  /** Where the agent's pod is. */
  readonly node: Node | undefined;
  readonly nodeName: string | undefined;
  /** Of its claims, by the claim's name; undefined where a volume was not looked at or not found. */
  readonly volumes: readonly { readonly claim: string; readonly volume: Volume | undefined }[];
  /** All of the cluster; looked at only where a volume says from which nodes it can be reached. */
  readonly nodes: readonly Node[];
  readonly budget: DisruptionBudget | undefined;
}

/**
 * Looks at where the agent is and where else it could be. What was found to be movable stays so for as long as the agent is on that
 * node: where a volume can be reached from does not change.
 */
export async function observePlace(
  cluster: ClusterReads,
  seen: {
    readonly namespace: string;
    readonly name: string;
    readonly pods: readonly Pod[];
    readonly claims: readonly (Claim | undefined)[];
    readonly conditions: readonly Condition[] | undefined;
    /** Where the agent was when its place was looked at last. */
    readonly knownNode: string | undefined;
  },
): Promise<AgentPlace | undefined> {
  const claims = seen.claims.flatMap((claim) =>
    claim?.spec?.volumeName === undefined ? [] : [{ name: claim.metadata.name, volume: claim.spec.volumeName }],
  );
  if (claims.length < seen.claims.length) return undefined;
  const nodeName = seen.pods.find(({ spec }) => spec?.nodeName !== undefined)?.spec?.nodeName;
  const node = nodeName === undefined ? undefined : await cluster.get(NODES, undefined, nodeName);
  const isMovable = conditionOf(seen.conditions, MOVABLE)?.status === "True";
  if (isMovable && (nodeName === undefined || nodeName === seen.knownNode))
    return { node, nodeName, volumes: [], nodes: [], budget: undefined };
  const [budget, volumes] = await Promise.all([
    cluster.get(DISRUPTION_BUDGETS, seen.namespace, seen.name),
    Promise.all(
      claims.map(async ({ name, volume }) => ({ claim: name, volume: await cluster.get(VOLUMES, undefined, volume) })),
    ),
  ]);
  const asks = volumes.some(({ volume }) => volume?.spec?.nodeAffinity?.required !== undefined);
  return { node, nodeName, volumes, nodes: asks ? await cluster.list(NODES, undefined) : [], budget };
}

/**
 * The claim that keeps the agent where it is, if one does: its volume can be reached from one node only, of those that there are and that
 * the pod may run on. A volume that cannot be seen counts as such, too: whoever is only told of changes looks more closely then.
 */
export function boundBy(place: AgentPlace, nodeSelector: Readonly<Record<string, string>> = {}): string | undefined {
  const mayRunOn = ({ metadata }: Node) =>
    Object.entries(nodeSelector).every(([key, value]) => metadata.labels?.[key] === value);
  const terms = place.volumes.map(({ volume }) => volume?.spec?.nodeAffinity?.required);
  const others = place.nodes.filter(
    (node) =>
      node.metadata.name !== place.nodeName && mayRunOn(node) && terms.every((term) => matchesNodeTerms(term, node)),
  );
  if (others.length > 0) return undefined;
  return place.volumes.find(({ volume }) => volume === undefined || volume.spec?.nodeAffinity?.required !== undefined)
    ?.claim;
}
