import { INSTANCES, JOBS, type Job, PODS, STATEFUL_SETS } from "../../kinds.ts";
import type { ResourceType } from "../../runtime/objects.ts";
import type { World } from "./world.ts";

/** The controllers of Jobs and StatefulSets, and what the Jobs' pods come to. */
export class ModelPods {
  readonly #world: World;

  constructor(world: World) {
    this.#world = world;
  }

  /** Every pod that is to run, and none whose owner is gone. */
  run(): void {
    const jobs = this.#world.cluster.all(JOBS);
    for (const pod of this.#world.cluster.all(PODS)) {
      const owner = pod.metadata.ownerReferences?.[0]?.uid;
      const lives = [...jobs, ...this.#world.cluster.all(STATEFUL_SETS), ...this.#world.cluster.all(INSTANCES)].some(
        ({ metadata }) => metadata.uid === owner,
      );
      if (!lives) this.#world.cluster.erase(PODS, pod.metadata.namespace, pod.metadata.name);
    }
    for (const set of this.#world.cluster.all(STATEFUL_SETS))
      this.put(
        `${set.metadata.name}-0`,
        set,
        { "app.kubernetes.io/name": "vmrestore-media-agent" },
        { phase: "Running" },
        this.#world.agentNode === undefined ? {} : { nodeName: this.#world.agentNode },
      );
    for (const job of jobs) {
      if (/-inspect(-\d+)?$/.test(job.metadata.name)) this.#inspect(job);
      else if (job.metadata.name.endsWith("-state")) this.#fillState(job);
      else {
        this.put(`${job.metadata.name}-0`, job, { "job-name": job.metadata.name });
        this.#world.agent.begin();
      }
    }
  }

  #fillState(job: Job): void {
    const { stateJobWaits: message } = this.#world;
    const pod = `${job.metadata.name}-0`;
    if (message !== undefined) {
      const conditions = [{ type: "PodScheduled", status: "False", reason: "Unschedulable", message }];
      this.put(pod, job, { "job-name": job.metadata.name }, { phase: "Pending", conditions });
      return;
    }
    this.#world.cluster.erase(PODS, job.metadata.namespace, pod);
    this.#world.cluster.change(JOBS, job.metadata.namespace, job.metadata.name, (changed) => {
      const conditions = [{ type: "Failed", status: "True", reason: "BackoffLimitExceeded", message: "it failed" }];
      changed.status = this.#world.stateJobFails ? { failed: 3, conditions } : { succeeded: 1 };
    });
  }

  #inspect(job: Job): void {
    const index = Number(/-inspect-(\d+)$/.exec(job.metadata.name)?.[1] ?? 0);
    const message = JSON.stringify(index === 0 ? this.#world.found : this.#world.foundElsewhere[index - 1]);
    this.put(
      `${job.metadata.name}-0`,
      job,
      { "job-name": job.metadata.name },
      {
        phase: "Succeeded",
        containerStatuses: [{ name: "inspect", state: { terminated: { exitCode: 0, message } } }],
      },
    );
    this.#world.cluster.change(JOBS, job.metadata.namespace, job.metadata.name, (changed) => {
      changed.status = { succeeded: 1 };
    });
  }

  /** A pod of that owner; one of an earlier owner goes. */
  put(
    name: string,
    owner: {
      kind: string;
      metadata: { name: string; namespace?: string; uid?: string; labels?: Record<string, string> };
    },
    labels: Record<string, string>,
    status: object = { phase: "Running" },
    spec: object = {},
  ): void {
    const { namespace = "", uid = "" } = owner.metadata;
    const present = this.#world.cluster.peek(PODS, namespace, name);
    if (present?.metadata.ownerReferences?.[0]?.uid === uid) return;
    this.#world.cluster.erase(PODS, namespace, name);
    const ownerReferences = [{ uid, kind: owner.kind, name: owner.metadata.name }];
    const metadata = { name, namespace, labels: { ...owner.metadata.labels, ...labels }, ownerReferences };
    this.#world.cluster.put(PODS as ResourceType, { apiVersion: "v1", kind: "Pod", metadata, spec, status });
  }

  get isCopying(): boolean {
    return this.#world.cluster
      .all(JOBS)
      .some(({ metadata }) => metadata.name.endsWith("-copy") && metadata.deletionTimestamp === undefined);
  }
}
