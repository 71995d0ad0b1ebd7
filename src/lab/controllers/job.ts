import { JOBS, type Job, PODS, type Pod } from "./kinds.ts";
import {
  controllerKey,
  controllerReference,
  isControlledBy,
  type LabContext,
  ownKey,
  runLabController,
} from "./lab-controller.ts";

/** As the real controller waits, but ten times shorter: 1 s, doubling. */
const BACKOFF_MS = 1000;
const BACKOFF_LIMIT = 6;

/** What to do for a Job, from its pods. */
export interface JobDecision {
  readonly conditions:
    | { readonly type: "Complete" | "Failed"; readonly reason: string; readonly message: string }
    | undefined;
  readonly createPod: boolean;
  /** Milliseconds until the next pod may be made. */
  readonly waitMs: number | undefined;
  readonly active: number;
  readonly succeeded: number;
  readonly failed: number;
}

/** One pod at a time until one succeeds, or more than `backoffLimit` failed (Kubernetes, "Jobs", non-parallel). */
export function decideJob(job: Job, pods: readonly Pod[], now: number): JobDecision {
  const count = (phase: string): number => pods.filter((pod) => pod.status?.phase === phase).length;
  const succeeded = count("Succeeded");
  const failed = count("Failed");
  const active = pods.length - succeeded - failed;
  const limit = job.spec.backoffLimit ?? BACKOFF_LIMIT;
  const counts = { active, succeeded, failed };
  const stop = { createPod: false, waitMs: undefined, ...counts };
  if (succeeded > 0) {
    const conditions = {
      type: "Complete",
      reason: "CompletionsReached",
      message: "Reached expected number of succeeded pods",
    } as const;
    return { ...stop, conditions };
  }
  if (failed > limit) {
    const conditions = {
      type: "Failed",
      reason: "BackoffLimitExceeded",
      message: "Job has reached the specified backoff limit",
    } as const;
    return { ...stop, conditions };
  }
  if (active > 0 || job.spec.suspend === true || job.metadata.deletionTimestamp !== undefined)
    return { ...stop, conditions: undefined };
  const lastEnd = Math.max(0, ...pods.map((pod) => endOf(pod)));
  const waitMs = failed === 0 ? 0 : lastEnd + BACKOFF_MS * 2 ** (failed - 1) - now;
  return waitMs > 0 ? { ...stop, conditions: undefined, waitMs } : { ...stop, conditions: undefined, createPod: true };
}

function endOf(pod: Pod): number {
  const ends = (pod.status?.containerStatuses ?? []).map(({ state }) =>
    Date.parse((state?.terminated as { finishedAt?: string })?.finishedAt ?? ""),
  );
  const known = ends.filter((end) => !Number.isNaN(end));
  return known.length > 0 ? Math.max(...known) : Date.parse(pod.metadata.creationTimestamp ?? "") || 0;
}

/** Runs Jobs to completion, one pod after the other. */
export function runJobController(context: LabContext, signal: AbortSignal): Promise<void> {
  const { cluster, clock } = context;
  const reconcile = async (namespace: string, name: string): Promise<number | undefined> => {
    const job = await cluster.get(JOBS, namespace, name);
    if (job === undefined) return undefined;
    const finished = job.status?.conditions?.find(
      ({ type, status }) => ["Complete", "Failed"].includes(type) && status === "True",
    );
    if (finished !== undefined) return expire(context, job, finished.lastTransitionTime);
    const pods = (await cluster.list(PODS, namespace, `batch.kubernetes.io/job-name=${name}`)).filter((pod) =>
      isControlledBy(pod, job),
    );
    const decision = decideJob(job, pods, clock.now());
    if (decision.createPod) {
      const labels = {
        "batch.kubernetes.io/job-name": name,
        "job-name": name,
        "batch.kubernetes.io/controller-uid": job.metadata.uid ?? "",
      };
      const { template } = job.spec;
      await cluster.create(PODS, {
        apiVersion: "v1",
        kind: "Pod",
        metadata: {
          // The name says which attempt it is: two creations of one attempt are one.
          name: `${name.slice(0, 240)}-${nextAttempt(pods)}`,
          namespace,
          labels: { ...template.metadata?.labels, ...labels },
          ...(template.metadata?.annotations === undefined ? {} : { annotations: template.metadata.annotations }),
          ownerReferences: [controllerReference(job)],
        } as never,
        spec: template.spec,
      });
    }
    const now = new Date(clock.now()).toISOString();
    const { conditions, succeeded, failed } = decision;
    await cluster.applyStatus(JOBS, {
      apiVersion: "batch/v1",
      kind: "Job",
      metadata: { name, namespace },
      status: {
        startTime: job.status?.startTime ?? now,
        active: decision.active + (decision.createPod ? 1 : 0),
        succeeded,
        failed,
        ready: pods.filter(isReady).length,
        ...(conditions?.type === "Complete" ? { completionTime: now } : {}),
        ...(conditions === undefined ? {} : { conditions: finalConditions(conditions, now) }),
      },
    });
    return decision.waitMs;
  };
  const watches = [
    { type: JOBS, keys: ownKey },
    { type: PODS, keys: controllerKey("Job") },
  ];
  return runLabController({ name: "job", watches, reconcile }, context, signal);
}

/** The condition that says how it ended, and before it the one that said it was about to: the API server asks for both. */
function finalConditions(final: NonNullable<JobDecision["conditions"]>, now: string): object[] {
  const before = final.type === "Complete" ? "SuccessCriteriaMet" : "FailureTarget";
  return [before, final.type].map((type) => ({
    ...final,
    type,
    status: "True",
    lastProbeTime: now,
    lastTransitionTime: now,
  }));
}

/** One more than the highest attempt among the pods: the number at the end of their names. */
function nextAttempt(pods: readonly Pod[]): number {
  return pods.reduce((next, { metadata }) => Math.max(next, Number(/-(\d+)$/.exec(metadata.name)?.[1] ?? -1) + 1), 0);
}

export function isReady(pod: Pod): boolean {
  return (pod.status?.conditions ?? []).some(({ type, status }) => type === "Ready" && status === "True");
}

/** Removes a finished Job after its time to live. */
async function expire(
  { cluster, clock }: LabContext,
  job: Job,
  finishedAt: string | undefined,
): Promise<number | undefined> {
  const { ttlSecondsAfterFinished } = job.spec;
  if (ttlSecondsAfterFinished === undefined) return undefined;
  const left = Date.parse(finishedAt ?? "") + ttlSecondsAfterFinished * 1000 - clock.now();
  if (left > 0) return left;
  await cluster.delete(JOBS, job);
  return undefined;
}
