import {
  matchesNodeTerms,
  type NodeTerms,
  type Toleration,
  untoleratedTaint,
} from "../../operator/runtime/placement.ts";
import type { Node, Volume } from "../controllers/kinds.ts";

/** What of a pod says where it may run. Spread and pod affinity have no effect in the lab, nor has what it asks of CPU and memory. */
export interface Placement {
  readonly nodeSelector?: Readonly<Record<string, string>>;
  readonly tolerations?: readonly Toleration[];
  readonly affinity?: {
    readonly nodeAffinity?: { readonly requiredDuringSchedulingIgnoredDuringExecution?: NodeTerms };
  };
}

/** The first node that takes a pod with these volumes, or why none does, in the words of Kubernetes' scheduler. */
export function chooseNode(
  pod: Placement,
  nodes: readonly Node[],
  volumes: readonly Volume[],
): { readonly node: string } | { readonly message: string } {
  const reasons = new Map<string, number>();
  for (const node of nodes) {
    const reason = refusal(pod, node, volumes);
    if (reason === undefined) return { node: node.metadata.name };
    reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
  }
  const told = [...reasons].map(([reason, count]) => `${count} ${reason}`).sort();
  return { message: `0/${nodes.length} nodes are available: ${told.join(", ")}.` };
}

function refusal(pod: Placement, node: Node, volumes: readonly Volume[]): string | undefined {
  if (node.spec?.unschedulable === true) return "node(s) were unschedulable";
  const taint = untoleratedTaint(node.spec?.taints ?? [], pod.tolerations);
  if (taint !== undefined) return `node(s) had untolerated taint {${taint.key}: ${taint.value ?? ""}}`;
  const labels = node.metadata.labels ?? {};
  const isSelected = Object.entries(pod.nodeSelector ?? {}).every(([key, value]) => labels[key] === value);
  const wanted = pod.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution;
  if (!isSelected || !matchesNodeTerms(wanted, node)) return "node(s) didn't match Pod's node affinity/selector";
  if (!volumes.every(({ spec }) => matchesNodeTerms(spec.nodeAffinity?.required, node)))
    return "node(s) didn't match PersistentVolume's node affinity";
  return undefined;
}
