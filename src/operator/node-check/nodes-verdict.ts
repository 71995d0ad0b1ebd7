import type { NodeReport } from "../../api/node-report.ts";
import type { ConditionDraft } from "../conditions.ts";
import {
  matchesNodeTerms,
  type NodeTerms,
  type Taint,
  type Toleration,
  untoleratedTaint,
} from "../runtime/placement.ts";
import { type NodeProblem, nodeProblems } from "./node-problems.ts";

/** A node on which KubeVirt may start machines, and what is known of it. */
export interface CheckedNode {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly taints: readonly Taint[];
  readonly state:
    | { readonly is: "Reported"; readonly report: NodeReport }
    /** It is being looked at, or will be. */
    | { readonly is: "Pending" }
    /** It could not be looked at. */
    | { readonly is: "Unknown"; readonly why: string };
}

/** Where a machine may run, as far as its manifest says. */
export interface Scheduling {
  readonly nodeSelector?: Readonly<Record<string, string>> | undefined;
  /** What its node affinity requires. */
  readonly nodeTerms?: NodeTerms | undefined;
  readonly tolerations?: readonly Toleration[] | undefined;
}

/** Of a machine whose manifest is not known yet: it may select or tolerate whatever there is. */
export const ANYWHERE: Scheduling = { tolerations: [{ operator: "Exists" }] };

const TYPE = "NodesReady";
const NAMED = 5;

/**
 * Whether a machine finds a node that can mount its disks: `False` only where every node that it may run on was looked at and none
 * can. Undefined while that is open. What the scheduler looks at beside node selector, node affinity and taints is not looked at here: it
 * could only make the answer less certain, not wrong.
 */
export function nodesVerdict(nodes: readonly CheckedNode[], machine: Scheduling): ConditionDraft | undefined {
  const fitting = nodes.filter((node) => fits(node, machine));
  const able: string[] = [];
  const unable: { readonly name: string; readonly problems: readonly NodeProblem[] }[] = [];
  const unknown: { readonly name: string; readonly why: string }[] = [];
  let pending = 0;
  for (const { name, state } of fitting) {
    if (state.is === "Pending") pending++;
    else if (state.is === "Unknown") unknown.push({ name, why: state.why });
    else {
      const problems = nodeProblems(state.report);
      if (problems.length === 0) able.push(name);
      else unable.push({ name, problems });
    }
  }
  if (able.length === 0 && pending > 0) return undefined;
  const [firstUnable] = unable;
  const [firstUnknown] = unknown;
  const against = unable.map(({ name, problems }) => `${name} ${problems.map(({ what }) => what).join(" and ")}`);
  const mends = [...new Set(unable.flatMap(({ problems }) => problems.map(({ mend }) => mend)))].join(" ");
  // no node for it at all: KubeVirt says so, and a node may be added
  if (fitting.length === 0)
    return draft(
      "Unknown",
      "NoNodeFits",
      "No node that takes machines fits this one's node selector, node affinity and tolerations.",
    );
  // some can, some cannot: where the machine goes is the scheduler's choice
  if (able.length > 0 && firstUnable !== undefined)
    return draft(
      "True",
      "SomeNodesUnable",
      `${able.length} of ${fitting.length} nodes can mount the machine's disks. On others it would hang in ContainerCreating: ${listed(against)}. ${mends} Or keep it off them with a nodeSelector.`,
    );
  if (able.length > 0) {
    const rest = fitting.length - able.length;
    const not = rest === 0 ? "" : ` ${rest} more were not looked at${firstUnknown === undefined ? " yet" : ""}.`;
    return draft("True", "Checked", `${able.length} of ${fitting.length} nodes can mount the machine's disks.${not}`);
  }
  // none can, and all were looked at
  if (firstUnknown === undefined)
    return draft(
      "False",
      firstUnable?.problems[0]?.reason ?? "Unknown",
      `No node that the machine may run on can mount its disks: ${listed(against)}. ${mends} The machine is started when a node can; nodes are looked at again each minute.`,
    );
  const found = against.length === 0 ? "" : ` Those that were cannot mount: ${listed(against)}. ${mends}`;
  return draft(
    "Unknown",
    "Unknown",
    `Whether nodes can mount the machine's disks is not known: ${firstUnknown.name} could not be looked at: ${firstUnknown.why}${found} The restore goes on. To look at no node, set nodeCheck.enabled of the chart to false.`,
  );
}

function draft(status: ConditionDraft["status"], reason: string, message: string): ConditionDraft {
  return { type: TYPE, status, reason, message };
}

function listed(texts: readonly string[]): string {
  const more = texts.length - NAMED;
  return `${texts.slice(0, NAMED).join("; ")}${more > 0 ? `; and ${more} more` : ""}`;
}

function fits({ name, labels, taints }: CheckedNode, machine: Scheduling): boolean {
  const { nodeSelector = {}, nodeTerms, tolerations } = machine;
  const isSelected = Object.entries(nodeSelector).every(([key, value]) => labels[key] === value);
  return (
    isSelected &&
    matchesNodeTerms(nodeTerms, { metadata: { name, labels } }) &&
    untoleratedTaint(taints, tolerations) === undefined
  );
}
