import { LABELS } from "../../api/group.ts";
import type { Clock } from "../../base/clock.ts";
import { errorMessage } from "../../base/errors.ts";
import { NODES, type Node, PODS } from "../kinds.ts";
import type { Cluster, ClusterReads } from "../runtime/cluster.ts";
import { ApiError, isConflict } from "../runtime/errors.ts";
import type { OperatorSettings } from "../settings.ts";
import { checkPod } from "./check-pod.ts";
import { decideChecks } from "./decide-checks.ts";
import type { CheckedNode } from "./nodes-verdict.ts";

/** For how long after somebody asked more is found out. */
const ASKED_MS = 60_000;
/** How often it is looked whether a report is out of date, while somebody asks. */
const LOOK_MS = 10_000;
/** How long after a refusal it is tried again. */
const REFUSED_MS = 600_000;
/** The one key of the queue. */
const KEY = "cluster/nodes";

export interface NodeChecksOptions {
  readonly cluster: Cluster;
  /** What is known without asking; default: the cluster is asked. */
  readonly known?: ClusterReads;
  readonly settings: OperatorSettings;
  readonly clock: Clock;
  /** Whatever works on it calls {@link NodeChecks.reconcile}. */
  readonly queue: { add(key: string): void };
}

/**
 * Keeps in mind which nodes can mount what media agents serve. Nodes are looked at when a restore asks, and then not again for a day;
 * nobody waits for it here. Where nobody asks, nothing is done.
 */
export class NodeChecks {
  readonly #options: NodeChecksOptions;
  #askedAt = Number.NEGATIVE_INFINITY;
  #nudgedAt = Number.NEGATIVE_INFINITY;
  #refused: { readonly why: string; readonly at: number } | undefined;
  #known: readonly CheckedNode[] | undefined;

  constructor(options: NodeChecksOptions) {
    this.#options = options;
  }

  /** What is known now; undefined before anything is. Whoever asks wants more to be known. */
  look(): readonly CheckedNode[] | undefined {
    const now = this.#options.clock.monotonic();
    this.#askedAt = now;
    if (now - this.#nudgedAt >= LOOK_MS) {
      this.#nudgedAt = now;
      this.#options.queue.add(KEY);
    }
    return this.#known;
  }

  /** A check's pod changed. */
  changed(): void {
    this.#options.queue.add(KEY);
  }

  /** Looks at the nodes that have to be looked at. Milliseconds until it should be called again. */
  async reconcile(): Promise<number | undefined> {
    const { cluster, known = cluster, settings, clock } = this.#options;
    const start = clock.monotonic();
    const isWanted = start - this.#askedAt < ASKED_MS;
    if (!isWanted && this.#known === undefined) return undefined;
    if (this.#refused !== undefined && start - this.#refused.at >= REFUSED_MS) this.#refused = undefined;
    const nodes = await known.list(NODES, undefined);
    const pods = await known.list(PODS, settings.namespace, LABELS.nodeCheck);
    const decision = decideChecks(nodes, pods, { now: clock.now(), refused: this.#refused?.why });
    this.#known = decision.nodes;
    if (!isWanted) return undefined;
    for (const pod of decision.remove) await cluster.delete(PODS, pod);
    for (const node of decision.start) if (!(await this.#start(node))) return 0;
    return decision.againMs;
  }

  /** Whether such pods are allowed. */
  async #start(node: Node): Promise<boolean> {
    const { cluster, settings, clock } = this.#options;
    try {
      await cluster.create(PODS, checkPod(node, settings));
    } catch (error) {
      // The watch is a little behind.
      if (isConflict(error)) return true;
      // By Pod Security, another admission, a quota or the lack of a right: all nodes are alike to them.
      if (!(error instanceof ApiError) || (error.status !== 403 && error.status !== 422 && error.status !== 400))
        throw error;
      const why = `the cluster refuses the pod that would (${errorMessage(error)}). Let namespace ${settings.namespace} take pods with hostPath and hostNetwork.`;
      this.#refused = { why, at: clock.monotonic() };
      return false;
    }
    return true;
  }
}
