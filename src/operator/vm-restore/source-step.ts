import { createHash } from "node:crypto";
import { backupRepositorySpec } from "../../api/backup-repository.ts";
import type { Inspection } from "../../api/inspection.ts";
import { create, remove, removeIfThere } from "../actions.ts";
import { complaint, reasonOf, sentence } from "../backup-repository/decide.ts";
import { type RepositoryMount, repositoryMount } from "../backup-repository/mount.ts";
import { conditionOf } from "../conditions.ts";
import { inspectionJob, inspectionOutcome } from "../inspection-job.ts";
import { JOBS, type Job } from "../kinds.ts";
import { restoreLabels, restoreNames } from "./names.ts";
import type { Observed, ObservedSource } from "./observed.ts";
import { isGranted } from "./repository-grant.ts";
import { no, type Outcome, waits, yes } from "./step.ts";

const INPUT_ANNOTATION = "vmrestore.io/input";
/** A repository may be mended at any time: look again so long after a failure. */
const RETRY_MS = 15_000;

/** Older findings are not built upon: the snapshot may have been forgotten, or a newer one made. */
const OLD_MS = 5 * 60_000;

export type Found = NonNullable<Inspection["snapshot"]>;

/** A snapshot that was looked into, and how it is reached. */
export interface FoundSource {
  readonly found: Found;
  readonly mount: RepositoryMount;
  readonly repositoryUid: string;
}

type SourceOutcome = Outcome & { readonly found?: FoundSource };

/** The backup: are the repositories ready, and what do the chosen snapshots hold? All of them are looked into at the same time. */
export function findSources(observed: Observed): Outcome & { readonly found?: readonly FoundSource[] } {
  const { sources, inspectionJobs } = observed;
  const outcomes = sources.map((source, index) => findSource(observed, source, index));
  const wanted = new Set(sources.map(({ job }) => job?.metadata.uid));
  const stale = inspectionJobs.filter(({ metadata }) => !wanted.has(metadata.uid));
  const actions = [
    ...stale.flatMap((job) => removeIfThere(JOBS, job)),
    ...outcomes.flatMap((outcome) => outcome.actions ?? []),
  ];
  const found = outcomes.flatMap((outcome) => outcome.found ?? []);
  if (found.length === sources.length && actions.length === 0)
    return { passes: true, conditions: [sourceReady(found.map((source) => source.found))], found };
  const waiting = outcomes.filter(({ passes }) => !passes);
  // What people have to mend is told before what only takes time.
  const worst = waiting.find(({ conditions }) => conditions?.[0]?.reason !== "Inspecting") ?? waiting[0];
  const conditions = worst?.conditions ?? [no("SourceReady", "Inspecting", "The backup is being looked at.")];
  const again = waiting.flatMap(({ againMs }) => againMs ?? []);
  return { passes: false, conditions, actions, ...(again.length === 0 ? {} : { againMs: Math.min(...again) }) };
}

function findSource(observed: Observed, seen: ObservedSource, index: number): SourceOutcome {
  const { restore, settings } = observed;
  const { repository } = seen;
  const { name, namespace } = seen.source.repository;
  if (namespace !== restore.metadata.namespace) {
    // The same words whether it is there or not: who may not read it may not learn that either.
    if (repository === undefined || !isGranted(repository, restore.metadata.namespace)) {
      const message = `There is no BackupRepository ${name} in namespace ${namespace} that this namespace may restore from. There, ${restore.metadata.namespace} has to be one of its spec.allowedNamespaces.`;
      return waits(no("SourceReady", "RepositoryNotAllowed", message), RETRY_MS);
    }
  }
  if (repository === undefined || repository.metadata.deletionTimestamp !== undefined) {
    return waits(
      no(
        "SourceReady",
        "RepositoryNotFound",
        `There is no BackupRepository ${name} in this namespace. Create it, or correct spec.source.${index === 0 ? "repository.name" : "disks"}.`,
      ),
      RETRY_MS,
    );
  }
  const ready = conditionOf(repository.status?.conditions, "Ready");
  const repositorySpec = backupRepositorySpec.safeParse(repository.spec).data;
  if (ready?.status !== "True" || repositorySpec === undefined) {
    return waits(
      no(
        "SourceReady",
        "RepositoryNotReady",
        `BackupRepository ${name} is not ready: ${ready?.message ?? "it was not checked yet."}`,
      ),
      RETRY_MS,
    );
  }
  const mount = repositoryMount(repository, repositorySpec, settings);
  const { found, ...outcome } = inspect(observed, seen, index, mount);
  if (found === undefined) return outcome;
  return { ...outcome, found: { found, mount, repositoryUid: repository.metadata.uid ?? "" } };
}

function inspect(
  observed: Observed,
  { source, job, pods }: ObservedSource,
  index: number,
  mount: RepositoryMount,
): Outcome & { readonly found?: Found } {
  const { restore, settings, spec } = observed;
  const selector = source.request;
  const input = createHash("sha256").update(JSON.stringify({ selector, mount })).digest("hex").slice(0, 32);
  const looking = no("SourceReady", "Inspecting", "The backup is being looked at.");
  if (job === undefined) {
    const object = inspectionJob({
      name: restoreNames(restore, "").inspection(index),
      labels: restoreLabels(restore),
      annotations: { [INPUT_ANNOTATION]: input },
      mount,
      selector,
      settings,
    });
    return { passes: false, actions: [create(JOBS, object)], conditions: [looking] };
  }
  if (job.metadata.deletionTimestamp !== undefined) return waits(looking, 500);
  if (job.metadata.annotations?.[INPUT_ANNOTATION] !== input)
    return { passes: false, actions: [remove(JOBS, job)], conditions: [looking] };
  const outcome = inspectionOutcome(job, pods);
  if (outcome.state === "Running") return waits(no("SourceReady", "Inspecting", sentence(outcome.message)), 1000);
  const where = observed.sources.length > 1 ? `BackupRepository ${source.repository.name}: ` : "";
  const fails = (reason: string, message: string) => failed(observed, job, reason, `${where}${message}`);
  if (outcome.state === "Lost") return fails("InspectionFailed", sentence(outcome.message));
  const { error, snapshot } = outcome.result;
  if (error !== undefined) return fails(reasonOf(error.code), complaint(error));
  if (snapshot === undefined) return fails("InspectionFailed", "The inspection told nothing about the snapshot.");
  if (index > 0 || spec.virtualMachine.manifest.from === "Inline") return { passes: true, found: snapshot };
  if (snapshot.virtualMachine === undefined) {
    const message = `Snapshot ${snapshot.id.slice(0, 8)} holds no VirtualMachine manifest that can be read. Give one with spec.virtualMachine.manifest.from: Inline.`;
    return fails("NoManifest", message);
  }
  const without = snapshot.withoutVolume ?? [];
  if (without.length > 0) {
    const message = `The snapshot's manifest has no volume ${without.join(", ")}. Name the disks in spec.source.disks as its volumes are named, or give a manifest with spec.virtualMachine.manifest.from: Inline.`;
    return fails("ManifestMismatch", message);
  }
  return { passes: true, found: snapshot };
}

/** Whether what was found may no longer be so: the restore waited for something else since. */
export function isOldInspection({ now }: Observed, job: Job): boolean {
  return now - Date.parse(job.metadata.creationTimestamp ?? "") > OLD_MS;
}

/** Says what is wrong, and looks again after a while: the Job goes, and the next reconcile makes another. */
function failed(observed: Observed, job: Job, reason: string, message: string): Outcome {
  const condition = no("SourceReady", reason, message);
  const before = conditionOf(observed.restore.status?.conditions, "SourceReady");
  const age = observed.now - Date.parse(job.metadata.creationTimestamp ?? "");
  // It stands in the status before the Job that tells it is deleted.
  if (before?.message === message && age >= RETRY_MS) {
    return { passes: false, conditions: [condition], actions: [remove(JOBS, job)] };
  }
  return waits(condition, Math.max(1000, RETRY_MS - age));
}

export function sourceReady(snapshots: readonly { id: string; host: string; time: string }[]) {
  const each = snapshots.map(({ id, host, time }) => `Snapshot ${id.slice(0, 8)} of host ${host}, made ${time}.`);
  return yes("SourceReady", "SnapshotFound", each.slice(0, 8).join(" "));
}
