import { NODES } from "./kinds.ts";
import { type LabContext, ownKey, runLabController } from "./lab-controller.ts";

/** On a node that was cordoned, beside `spec.unschedulable`. */
const UNSCHEDULABLE = "node.kubernetes.io/unschedulable";

/** Taints the nodes that are cordoned, as the node lifecycle controller does. */
export function runNodeTaints(context: LabContext, signal: AbortSignal): Promise<void> {
  const { cluster } = context;
  const reconcile = async (_namespace: string, name: string): Promise<undefined> => {
    const node = await cluster.get(NODES, undefined, name);
    if (node === undefined) return;
    const taints = node.spec?.taints ?? [];
    const isTainted = taints.some(({ key }) => key === UNSCHEDULABLE);
    const isCordoned = node.spec?.unschedulable === true;
    if (isTainted === isCordoned) return;
    const others = taints.filter(({ key }) => key !== UNSCHEDULABLE);
    const wanted = isCordoned ? [...others, { key: UNSCHEDULABLE, effect: "NoSchedule" }] : others;
    await cluster.replace(NODES, { ...node, spec: { ...node.spec, taints: wanted } } as never);
  };
  return runLabController(
    { name: "node-taints", watches: [{ type: NODES, keys: ownKey }], reconcile },
    context,
    signal,
  );
}
