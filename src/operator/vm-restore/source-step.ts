import { createHash } from "node:crypto";
import { backupRepositorySpec } from "../../api/backup-repository.ts";
import type { Inspection } from "../../api/inspection.ts";
import { create, remove } from "../actions.ts";
import { complaint, reasonOf, sentence } from "../backup-repository/decide.ts";
import { type RepositoryMount, repositoryMount } from "../backup-repository/mount.ts";
import { conditionOf } from "../conditions.ts";
import { inspectionJob, inspectionOutcome } from "../inspection-job.ts";
import { JOBS, type Job } from "../kinds.ts";
import { restoreLabels, restoreNames } from "./names.ts";
import type { Observed } from "./observed.ts";
import { selectorOf } from "./plan.ts";
import { isGranted, repositoryName } from "./repository-grant.ts";
import { no, type Outcome, waits, yes } from "./step.ts";

const INPUT_ANNOTATION = "vmrestore.io/input";
/** A repository may be mended at any time: look again so long after a failure. */
const RETRY_MS = 15_000;

/** Older findings are not built upon: the snapshot may have been forgotten, or a newer one made. */
const OLD_MS = 5 * 60_000;

export type Found = NonNullable<Inspection["snapshot"]>;

/** The backup: is the repository ready, and what does the chosen snapshot hold? */
export function findSource(observed: Observed): Outcome & { readonly found?: Found; readonly mount?: RepositoryMount } {
  const { restore, repository, spec } = observed;
  const { name, namespace } = repositoryName(spec.source.repository, restore.metadata.namespace);
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
        `There is no BackupRepository ${name} in this namespace. Create it, or correct spec.source.repository.name.`,
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
  const mount = repositoryMount(repository, repositorySpec, observed.settings);
  return { ...inspect(observed, mount), mount };
}

function inspect(observed: Observed, mount: RepositoryMount): Outcome & { readonly found?: Found } {
  const { restore, settings, spec, inspection } = observed;
  const { job, pods } = inspection;
  const selector = selectorOf(spec);
  const input = createHash("sha256").update(JSON.stringify({ selector, mount })).digest("hex").slice(0, 32);
  const looking = no("SourceReady", "Inspecting", "The backup is being looked at.");
  if (job === undefined) {
    const object = inspectionJob({
      name: restoreNames(restore, "").inspection,
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
  if (outcome.state === "Lost") return failed(observed, "InspectionFailed", sentence(outcome.message));
  const { error, snapshot } = outcome.result;
  if (error !== undefined) return failed(observed, reasonOf(error.code), complaint(error));
  if (snapshot === undefined)
    return failed(observed, "InspectionFailed", "The inspection told nothing about the snapshot.");
  if (snapshot.virtualMachine === undefined && spec.virtualMachine.manifest.from === "Snapshot") {
    const message = `Snapshot ${snapshot.id.slice(0, 8)} holds no VirtualMachine manifest that can be read. Give one with spec.virtualMachine.manifest.from: Inline.`;
    return failed(observed, "NoManifest", message);
  }
  const without = snapshot.withoutVolume ?? [];
  if (without.length > 0 && spec.virtualMachine.manifest.from === "Snapshot") {
    const message = `The snapshot's manifest has no volume ${without.join(", ")}. Name the disks in spec.source.disks as its volumes are named, or give a manifest with spec.virtualMachine.manifest.from: Inline.`;
    return failed(observed, "ManifestMismatch", message);
  }
  return { passes: true, conditions: [sourceReady(snapshot)], found: snapshot };
}

/** Whether what was found may no longer be so: the restore waited for something else since. */
export function isOldInspection({ now }: Observed, job: Job): boolean {
  return now - Date.parse(job.metadata.creationTimestamp ?? "") > OLD_MS;
}

/** Says what is wrong, and looks again after a while: the Job goes, and the next reconcile makes another. */
function failed(observed: Observed, reason: string, message: string): Outcome {
  const { job } = observed.inspection;
  const condition = no("SourceReady", reason, message);
  const before = conditionOf(observed.restore.status?.conditions, "SourceReady");
  const age = observed.now - Date.parse(job?.metadata.creationTimestamp ?? "");
  // It stands in the status before the Job that tells it is deleted.
  if (before?.message === message && age >= RETRY_MS && job !== undefined) {
    return { passes: false, conditions: [condition], actions: [remove(JOBS, job)] };
  }
  return waits(condition, Math.max(1000, RETRY_MS - age));
}

export function sourceReady(snapshot: { id: string; host: string; time: string }) {
  return yes(
    "SourceReady",
    "SnapshotFound",
    `Snapshot ${snapshot.id.slice(0, 8)} of host ${snapshot.host}, made ${snapshot.time}.`,
  );
}
