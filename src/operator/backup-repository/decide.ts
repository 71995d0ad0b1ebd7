import { REPOSITORY_FILES } from "../../api/agent-config.ts";
import {
  type BackupRepository,
  type BackupRepositoryStatus,
  backupRepositorySpec,
} from "../../api/backup-repository.ts";
import { parseDuration } from "../../api/duration.ts";
import type { Inspection } from "../../api/inspection.ts";
import { type Action, create, remove, removeIfThere } from "../actions.ts";
import { type ConditionDraft, conditionOf, isTrue, mergeConditions } from "../conditions.ts";
import { inspectionJob, inspectionOutcome } from "../inspection-job.ts";
import {
  BACKUP_REPOSITORIES,
  CLAIMS,
  type Claim,
  JOBS,
  type Job,
  type Pod,
  SECRETS,
  type Secret,
  VOLUMES,
  type Volume,
} from "../kinds.ts";
import type { Manifest } from "../runtime/objects.ts";
import type { OperatorSettings } from "../settings.ts";
import { credentialsOf, credentialsSecret, type NamedSecrets } from "./credentials.ts";
import { mountLabels, mountName, mountObjects, repositoryMount, volumeSource } from "./mount.ts";

/** Keeps the volume and password in the operator's namespace until no media agent reads the repository any more. */
export const REPOSITORY_FINALIZER = "vmrestore.io/repository";
const MOUNTING = "The repository's volume is being made reachable for the operator's pods.";
const INPUT_ANNOTATION = "vmrestore.io/input";
const SOURCE_ANNOTATION = "vmrestore.io/source-volume-uid";
const RETRY_MS = 15_000;
/** Nobody tells when a tenant's Secret changes: agents wait for its copy no longer than this. */
const LOOK_MS = 60_000;

export interface ObservedRepository {
  readonly now: number;
  readonly settings: OperatorSettings;
  readonly repository: BackupRepository;
  /** In the tenant's namespace. */
  readonly claim: Claim | undefined;
  readonly volume: Volume | undefined;
  readonly secrets: NamedSecrets;
  /** In the operator's namespace. */
  readonly mounted: {
    readonly claim: Claim | undefined;
    readonly volume: Volume | undefined;
    readonly secret: Secret | undefined;
  };
  readonly job: Job | undefined;
  readonly pods: readonly Pod[];
  /** How many restores read from it. */
  readonly users: number;
}

export interface RepositoryDecision {
  readonly actions: readonly Action[];
  readonly status?: BackupRepositoryStatus;
  /** Done when the status is written. */
  readonly afterStatus?: readonly Action[];
  readonly againMs?: number;
}

/** What to do for a BackupRepository next. Pure. */
export function decideRepository(observed: ObservedRepository): RepositoryDecision {
  const { repository } = observed;
  if (repository.metadata.deletionTimestamp !== undefined) return release(observed);
  const finalizers = repository.metadata.finalizers ?? [];
  if (!finalizers.includes(REPOSITORY_FINALIZER))
    return { actions: [withFinalizers(repository, [...finalizers, REPOSITORY_FINALIZER])] };

  const spec = backupRepositorySpec.safeParse(repository.spec);
  if (!spec.success) {
    const issue = spec.error.issues[0];
    const field = ["spec", ...(issue?.path ?? [])].join(".");
    return notReady(observed, "InvalidSpec", sentence(`${field}: ${issue?.message}`));
  }
  const credentials = credentialsOf(spec.data, observed.secrets, observed.settings);
  if ("problem" in credentials) return notReady(observed, credentials.reason, credentials.problem);
  const copying = copyActions(observed, credentials.data);
  if (spec.data.local === undefined) {
    return copying.length > 0 ? { actions: copying } : check(observed, parseDuration(spec.data.checkInterval));
  }
  const source = volumeSource(observed.claim, observed.volume, spec.data.local.claimName);
  if ("problem" in source || observed.volume === undefined) {
    return "problem" in source ? notReady(observed, source.reason, source.problem) : { actions: [] };
  }
  if (isElsewhere(observed, observed.volume) && observed.users > 0) {
    const message = `${machines(observed.users)} from the volume that this repository had before. The new one is used when they are relocated or deleted.`;
    return notReady(observed, "VolumeInUse", message, 10_000);
  }
  if (isElsewhere(observed, observed.volume) || isReleased(observed)) {
    const { claim, volume } = observed.mounted;
    const actions = gone([
      [CLAIMS, claim],
      [VOLUMES, volume],
    ]);
    return { ...notReady(observed, "Mounting", MOUNTING, 1000), actions };
  }
  const actions = [...mountActions(observed, source.source, observed.volume), ...copying];
  if (actions.length > 0) return { actions };
  if (observed.mounted.claim?.status?.phase !== "Bound") {
    return notReady(observed, "Mounting", MOUNTING, 1000);
  }
  return check(observed, parseDuration(spec.data.checkInterval));
}

/** The copy of everything secret follows the tenant's Secrets: agents and Jobs pick up what changes. */
function copyActions({ repository, settings, mounted }: ObservedRepository, data: Record<string, string>): Action[] {
  const isCurrent = Object.values(REPOSITORY_FILES).every((file) => mounted.secret?.data?.[file] === data[file]);
  if (mounted.secret !== undefined && isCurrent) return [];
  return [{ do: "apply", type: SECRETS, object: credentialsSecret(repository, settings.namespace, data) }];
}

function mountActions(observed: ObservedRepository, source: Record<string, unknown>, volume: Volume): Action[] {
  const { repository, settings, mounted } = observed;
  const objects = mountObjects(repository, { source, volume, namespace: settings.namespace });
  const sourceUid = volume.metadata.uid ?? "";
  objects.volume.metadata.annotations = { [SOURCE_ANNOTATION]: sourceUid };
  const actions: Action[] = [];
  if (mounted.volume === undefined) actions.push(create(VOLUMES, objects.volume));
  if (mounted.claim === undefined) actions.push(create(CLAIMS, objects.claim));
  return actions;
}

/** Whether the second volume leads to another place than the claim does now. */
function isElsewhere({ mounted }: ObservedRepository, volume: Volume): boolean {
  return (
    mounted.volume !== undefined &&
    mounted.volume.metadata.annotations?.[SOURCE_ANNOTATION] !== (volume.metadata.uid ?? "")
  );
}

/** Whether the second volume was bound to a claim that is gone: it is never bound again. */
function isReleased({ mounted }: ObservedRepository): boolean {
  const bound = mounted.volume?.spec?.claimRef?.uid;
  return bound !== undefined && mounted.claim?.metadata.uid !== bound;
}

function check(observed: ObservedRepository, intervalMs: number): RepositoryDecision {
  const { repository, job, now } = observed;
  const status = repository.status ?? {};
  if (job === undefined) {
    const isCurrent = status.observedGeneration === (repository.metadata.generation ?? 0);
    const pause = isTrue(status.conditions, "Ready") ? intervalMs : RETRY_MS;
    const due = status.lastCheckTime === undefined || !isCurrent ? now : Date.parse(status.lastCheckTime) + pause;
    if (now < due) return { actions: [], againMs: Math.min(due - now, LOOK_MS) };
    return { actions: [create(JOBS, checkJob(observed))], againMs: 1000 };
  }
  if (job.metadata.deletionTimestamp !== undefined) return { actions: [], againMs: 1000 };
  // It looked elsewhere, or with another password.
  if (job.metadata.annotations?.[INPUT_ANNOTATION] !== inputOf(observed))
    return { actions: [remove(JOBS, job)], againMs: 1000 };
  const outcome = inspectionOutcome(job, observed.pods);
  if (outcome.state === "Running") {
    const before = conditionOf(status.conditions, "Ready");
    // A repository that was ready stays so while it is looked at again.
    if (before?.status === "True") return { actions: [], againMs: 2000 };
    return notReady(observed, "Checking", sentence(outcome.message), 2000);
  }
  const afterStatus = [remove(JOBS, job)];
  if (outcome.state === "Lost")
    return { ...notReady(observed, "CheckFailed", sentence(outcome.message), RETRY_MS, true), afterStatus };
  return { ...checked(observed, outcome.result), afterStatus };
}

function checked(observed: ObservedRepository, result: Inspection): RepositoryDecision {
  const { error, repository: found } = result;
  if (error !== undefined) return notReady(observed, reasonOf(error.code), complaint(error), RETRY_MS, true);
  if (found === undefined)
    return notReady(observed, "CheckFailed", "The check told nothing about the repository.", RETRY_MS, true);
  const snapshots = found.snapshots === 1 ? "1 snapshot" : `${found.snapshots} snapshots`;
  const { damagedSnapshots: damaged = 0 } = found;
  const isDamaged = damaged === 0 ? "" : `, and ${damaged} that cannot be read: run \`restic check\``;
  const message = `restic repository of format ${found.version} with ${snapshots}${isDamaged}.`;
  const status = statusWith(observed, { type: "Ready", status: "True", reason: "Checked", message }, true);
  return {
    actions: [],
    status: {
      ...status,
      id: found.id.slice(0, 64),
      formatVersion: found.version,
      snapshots: found.snapshots,
      ...(found.latest === undefined ? {} : { latestSnapshotTime: found.latest }),
    },
    againMs: 1000,
  };
}

function release(observed: ObservedRepository): RepositoryDecision {
  const { repository, mounted, job, users } = observed;
  const finalizers = repository.metadata.finalizers ?? [];
  if (!finalizers.includes(REPOSITORY_FINALIZER)) return { actions: [] };
  if (users > 0) {
    const message = `${machines(users)} from it. It goes away when they are relocated or deleted.`;
    return notReady(observed, "InUse", message, 10_000);
  }
  if (job !== undefined) return { actions: gone([[JOBS, job]]), againMs: 1000 };
  const actions = gone([
    [CLAIMS, mounted.claim],
    [SECRETS, mounted.secret],
  ]);
  if (mounted.claim !== undefined) return { actions, againMs: 1000 };
  if (mounted.volume !== undefined)
    return { actions: [...actions, ...gone([[VOLUMES, mounted.volume]])], againMs: 1000 };
  return {
    actions: [
      ...actions,
      withFinalizers(
        repository,
        finalizers.filter((name) => name !== REPOSITORY_FINALIZER),
      ),
    ],
  };
}

function machines(count: number): string {
  return count === 1 ? "1 restored machine still reads" : `${count} restored machines still read`;
}

function gone(objects: readonly Parameters<typeof removeIfThere>[]): Action[] {
  return objects.flatMap(([type, object]) => removeIfThere(type, object));
}

function withFinalizers(repository: BackupRepository, finalizers: string[]): Action {
  const object = { ...repository, metadata: { ...repository.metadata, finalizers } } as unknown as Manifest;
  return { do: "replace", type: BACKUP_REPOSITORIES, object };
}

function checkJob(observed: ObservedRepository): Manifest {
  const { repository, settings } = observed;
  const spec = backupRepositorySpec.parse(repository.spec);
  return inspectionJob({
    name: mountName(repository),
    labels: mountLabels(repository),
    annotations: { [INPUT_ANNOTATION]: inputOf(observed) },
    mount: repositoryMount(repository, spec, settings),
    settings,
  });
}

/** What a check's result is about. */
function inputOf({ repository, mounted }: ObservedRepository): string {
  return `${repository.metadata.generation ?? 0}/${mounted.secret?.metadata.resourceVersion ?? ""}`;
}

function notReady(
  observed: ObservedRepository,
  reason: string,
  message: string,
  againMs = 10_000,
  isCheck = false,
): RepositoryDecision {
  return {
    actions: [],
    status: statusWith(observed, { type: "Ready", status: "False", reason, message }, isCheck),
    againMs,
  };
}

/** What is told of a repository for which something could not be made or removed. */
export function actionFailed(observed: ObservedRepository, message: string): BackupRepositoryStatus {
  return statusWith(
    observed,
    { type: "Ready", status: "False", reason: "ActionFailed", message: sentence(message) },
    false,
  );
}

function statusWith(
  { repository, now }: ObservedRepository,
  ready: ConditionDraft,
  isCheck: boolean,
): BackupRepositoryStatus {
  const before = repository.status ?? {};
  const generation = repository.metadata.generation ?? 0;
  return {
    ...before,
    ...(isCheck ? { observedGeneration: generation, lastCheckTime: new Date(now).toISOString() } : {}),
    conditions: mergeConditions(before.conditions ?? [], [ready], { now, generation }),
  };
}

/** `SNAPSHOT_NOT_FOUND` → `SnapshotNotFound`. */
export function reasonOf(code: string): string {
  const words = code.split(/[^A-Za-z0-9]+/).filter((word) => word !== "");
  const name = words.map((word) => `${word.slice(0, 1).toUpperCase()}${word.slice(1).toLowerCase()}`).join("");
  return /^[A-Z]/.test(name) ? name.slice(0, 128) : "Failed";
}

/** What went wrong and what to do, as sentences. */
export function complaint(error: { message: string; hint?: string | undefined }): string {
  return [error.message, error.hint]
    .filter((part) => part !== undefined && part !== "")
    .map((part) => sentence(part ?? ""))
    .join(" ");
}

/** Begins with a capital, where it does not begin with a field's name, and ends with a stop. */
export function sentence(text: string): string {
  const trimmed = text.trim();
  const begun = /^(spec|status)\b/.test(trimmed) ? trimmed : `${trimmed.slice(0, 1).toUpperCase()}${trimmed.slice(1)}`;
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}
