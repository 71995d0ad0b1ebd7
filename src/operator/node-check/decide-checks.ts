import { parseNodeReport } from "../../api/node-report.ts";
import { podTrouble } from "../inspection-job.ts";
import type { Node, Pod } from "../kinds.ts";
import { CHECK_SECONDS, checkPodName, NODE_ANNOTATIONS } from "./check-pod.ts";
import { nodeProblems } from "./node-problems.ts";
import type { CheckedNode } from "./nodes-verdict.ts";

/** How old a report may be: a good one, one that says what is to be mended, and none at all. */
const KEPT_MS = { good: 24 * 3_600_000, bad: 60_000, none: 600_000 } as const;
/** Pods under way at once: each may pull the image onto its node. */
const MOST_UNDER_WAY = 8;
const SCHEDULABLE = "kubevirt.io/schedulable";

export interface ChecksDecision {
  /** Every node that takes machines now. */
  readonly nodes: readonly CheckedNode[];
  /** To be looked at now. */
  readonly start: readonly Node[];
  /** Out of date, or of nodes that are gone. */
  readonly remove: readonly Pod[];
  /** Look again after so many milliseconds, for what no watch tells. */
  readonly againMs: number | undefined;
}

/**
 * What is known of the nodes, and what is to be done to know more. A check's pod is also the record of its report: it stays when it has
 * ended, until it is out of date.
 *
 * @param now milliseconds since the epoch
 * @param refused why no such pod can be made at the moment
 */
export function decideChecks(
  nodes: readonly Node[],
  pods: readonly Pod[],
  { now, refused }: { readonly now: number; readonly refused: string | undefined },
): ChecksDecision {
  const byNode = new Map(pods.map((pod) => [pod.metadata.annotations?.[NODE_ANNOTATIONS.node] ?? "", pod]));
  const candidates = nodes.filter(takesMachines);
  const looked = candidates.map((node) => ({ node, ...lookedAt(node, byNode.get(node.metadata.name), now, refused) }));
  const names = new Set(nodes.map(({ metadata }) => metadata.name));
  const left = pods.filter(({ metadata }) => !names.has(metadata.annotations?.[NODE_ANNOTATIONS.node] ?? ""));
  const underWay = looked.filter(({ state, hasPod }) => state.is === "Pending" && hasPod).length;
  const waiting = looked.filter(({ hasPod }) => !hasPod).map(({ node }) => node);
  return {
    nodes: looked.map(({ node, state }) => ({
      name: node.metadata.name,
      labels: node.metadata.labels ?? {},
      taints: node.spec?.taints ?? [],
      state,
    })),
    start: refused === undefined ? waiting.slice(0, Math.max(0, MOST_UNDER_WAY - underWay)) : [],
    remove: [
      ...left.filter(({ metadata }) => metadata.deletionTimestamp === undefined),
      ...looked.flatMap(({ outdated }) => outdated ?? []),
    ],
    againMs: underWay > 0 ? 5000 : undefined,
  };
}

function takesMachines({ metadata, spec, status }: Node): boolean {
  const isReady = status?.conditions?.some(({ type, status: is }) => type === "Ready" && is === "True") ?? false;
  return isReady && spec?.unschedulable !== true && metadata.labels?.[SCHEDULABLE] === "true";
}

interface LookedAt {
  readonly state: CheckedNode["state"];
  readonly hasPod: boolean;
  readonly outdated?: Pod;
}

function lookedAt(node: Node, pod: Pod | undefined, now: number, refused: string | undefined): LookedAt {
  const nothing: CheckedNode["state"] = refused === undefined ? { is: "Pending" } : { is: "Unknown", why: refused };
  if (pod === undefined) return { state: nothing, hasPod: false };
  const { metadata, status } = pod;
  if (metadata.deletionTimestamp !== undefined) return { state: nothing, hasPod: true };
  const age = now - Date.parse(metadata.creationTimestamp ?? "");
  const isOfThisStart = metadata.annotations?.[NODE_ANNOTATIONS.bootId] === (node.status?.nodeInfo?.bootID ?? "");
  const outdated = (isOutdated: boolean) => (isOutdated || !isOfThisStart ? { outdated: pod } : {});
  const ended = status?.containerStatuses?.[0]?.state?.terminated;
  const report = parseNodeReport(ended?.message);
  if (report !== undefined) {
    const kept = nodeProblems(report).length === 0 ? KEPT_MS.good : KEPT_MS.bad;
    const state = isOfThisStart ? ({ is: "Reported", report } as const) : nothing;
    return { state, hasPod: true, ...outdated(age > kept) };
  }
  const isOver = ended !== undefined || status?.phase === "Failed" || status?.phase === "Succeeded";
  if (!isOver && age < CHECK_SECONDS * 1000) return { state: nothing, hasPod: true, ...outdated(false) };
  const trouble = podTrouble([pod]) ?? (isOver ? "it told nothing" : "it does not start");
  const place = `-n ${metadata.namespace} pod ${checkPodName(node.metadata.name)}`;
  const why = `${trouble} (see \`kubectl describe ${place}\`). Let the namespace allow pods with hostPath and hostNetwork.`;
  return { state: { is: "Unknown", why }, hasPod: true, ...outdated(age > KEPT_MS.none) };
}
