import { NODES, type Node, type Taint } from "./kinds.ts";
import { type LabContext, ownKey, runLabController } from "./lab-controller.ts";

/** On a node that was cordoned, beside `spec.unschedulable`. */
const UNSCHEDULABLE = "node.kubernetes.io/unschedulable";
/** A real API server puts it on each node that registers; it goes when the node says that it is ready. */
const NOT_READY = "node.kubernetes.io/not-ready";

/** The taints that a node is to bear, as the node lifecycle controller has it; undefined where it bears them. */
export function wantedTaints({ spec, status }: Pick<Node, "spec" | "status">): Taint[] | undefined {
  const taints = spec?.taints ?? [];
  const ready = status?.conditions?.find(({ type }) => type === "Ready")?.status;
  const wanted = new Map<string, boolean>([[UNSCHEDULABLE, spec?.unschedulable === true]]);
  // One that has not told anything yet keeps what it was given.
  if (ready !== undefined) wanted.set(NOT_READY, ready !== "True");
  const has = (key: string): boolean => taints.some((taint) => taint.key === key);
  if ([...wanted].every(([key, isWanted]) => has(key) === isWanted)) return undefined;
  const kept = taints.filter(({ key }) => wanted.get(key) !== false);
  const added = [...wanted].filter(([key, isWanted]) => isWanted && !has(key));
  return [...kept, ...added.map(([key]) => ({ key, effect: "NoSchedule" }))];
}

/** Keeps the taints of nodes that are cordoned or not ready. */
export function runNodeTaints(context: LabContext, signal: AbortSignal): Promise<void> {
  const { cluster } = context;
  const reconcile = async (_namespace: string, name: string): Promise<undefined> => {
    const node = await cluster.get(NODES, undefined, name);
    const taints = node === undefined ? undefined : wantedTaints(node);
    if (node === undefined || taints === undefined) return;
    await cluster.replace(NODES, { ...node, spec: { ...node.spec, taints } } as never);
  };
  return runLabController(
    { name: "node-taints", watches: [{ type: NODES, keys: ownKey }], reconcile },
    context,
    signal,
  );
}
