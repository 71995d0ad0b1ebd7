import { isDeepStrictEqual } from "node:util";
import {
  type BackupRepository,
  type BackupRepositoryStatus,
  backupRepositorySpec,
} from "../../api/backup-repository.ts";
import { alsoReads, LABELS } from "../../api/group.ts";
import type { Clock } from "../../base/clock.ts";
import { errorMessage } from "../../base/errors.ts";
import { perform } from "../actions.ts";
import { changedConditions, isTrue } from "../conditions.ts";
import { BACKUP_REPOSITORIES, CLAIMS, JOBS, PODS, SECRETS, VOLUMES } from "../kinds.ts";
import type { Cluster, ClusterReads } from "../runtime/cluster.ts";
import { isConflict } from "../runtime/errors.ts";
import type { EventRecorder } from "../runtime/event-recorder.ts";
import { identityOf } from "../runtime/objects.ts";
import type { OperatorSettings } from "../settings.ts";
import { accessSecretName } from "./credentials.ts";
import { actionFailed, decideRepository, type ObservedRepository } from "./decide.ts";
import { mountName } from "./mount.ts";

/** Reasons why a repository is not ready yet, with nothing wrong. */
const UNDER_WAY = ["Mounting", "Checking"];

export interface RepositoryReconcilerOptions {
  readonly cluster: Cluster;
  readonly settings: OperatorSettings;
  readonly clock: Clock;
  readonly events: EventRecorder;
  /** What is known of the cluster without asking; default: nothing. */
  readonly known?: ClusterReads;
}

/** Gathers, decides, writes: one step for one BackupRepository. Milliseconds until the next, undefined: on a change only. */
export async function reconcileRepository(
  options: RepositoryReconcilerOptions,
  namespace: string,
  name: string,
): Promise<number | undefined> {
  const { cluster } = options;
  const idle = await glance(options, namespace, name);
  if (idle !== undefined) return idle.againMs;
  const repository = await cluster.get(BACKUP_REPOSITORIES, namespace, name);
  if (repository === undefined) return undefined;
  const observed = await observe(options, repository, cluster);
  const decision = decideRepository(observed);
  try {
    await perform(decision.actions, cluster, undefined);
  } catch (error) {
    // One that was ready still is: its users are not to be held up by a request that failed.
    if (!isConflict(error) && !isTrue(repository.status?.conditions, "Ready"))
      await writeStatus(options, repository, actionFailed(observed, errorMessage(error))).catch(() => undefined);
    throw error;
  }
  if (decision.status !== undefined) await writeStatus(options, repository, decision.status);
  await perform(decision.afterStatus ?? [], cluster, undefined);
  return decision.actions.length > 0 ? (decision.againMs ?? 0) : decision.againMs;
}

/**
 * What comes next, if nothing is to be done for a repository that is ready: what the operator made is known from the watches, and only
 * what the tenant made is read.
 */
async function glance(
  options: RepositoryReconcilerOptions,
  namespace: string,
  name: string,
): Promise<{ readonly againMs: number | undefined } | undefined> {
  if (options.known === undefined) return undefined;
  const repository = await options.known.get(BACKUP_REPOSITORIES, namespace, name);
  if (repository === undefined || !isTrue(repository.status?.conditions, "Ready")) return undefined;
  const decision = decideRepository(await observe(options, repository, options.known));
  const isIdle =
    decision.actions.length === 0 &&
    (decision.afterStatus ?? []).length === 0 &&
    (decision.status === undefined || isDeepStrictEqual(decision.status, repository.status));
  return isIdle ? { againMs: decision.againMs } : undefined;
}

async function writeStatus(
  { cluster, events }: RepositoryReconcilerOptions,
  repository: BackupRepository,
  status: BackupRepositoryStatus,
): Promise<void> {
  if (isDeepStrictEqual(status, repository.status ?? {})) return;
  await cluster.applyStatus(BACKUP_REPOSITORIES, {
    apiVersion: repository.apiVersion,
    kind: repository.kind,
    metadata: identityOf(repository),
    status,
  });
  for (const changed of changedConditions(repository.status?.conditions ?? [], status.conditions ?? [])) {
    const isNormal = changed.status === "True" || UNDER_WAY.includes(changed.reason);
    await events.record(repository, { ...changed, type: isNormal ? "Normal" : "Warning" });
  }
}

/** @param ours where what the operator made is read */
async function observe(
  { cluster, settings, clock }: RepositoryReconcilerOptions,
  repository: BackupRepository,
  ours: ClusterReads,
): Promise<ObservedRepository> {
  const own = settings.namespace;
  const { namespace, uid } = repository.metadata;
  const mounted = mountName(repository);
  const spec = backupRepositorySpec.safeParse(repository.spec).data;
  const claimName = spec?.local?.claimName;
  const claim = claimName === undefined ? undefined : await cluster.get(CLAIMS, namespace, claimName);
  const volumeName = claim?.spec?.volumeName;
  const secretOf = (secretName: string | undefined) =>
    secretName === undefined ? undefined : cluster.get(SECRETS, namespace, secretName);
  const [volume, password, access, mountedClaim, mountedVolume, mountedSecret, job, pods, users, others] =
    await Promise.all([
      volumeName === undefined ? undefined : cluster.get(VOLUMES, undefined, volumeName),
      secretOf(spec?.credentialsSecretRef.name),
      secretOf(spec === undefined ? undefined : accessSecretName(spec)),
      ours.get(CLAIMS, own, mounted),
      ours.get(VOLUMES, undefined, mounted),
      ours.get(SECRETS, own, mounted),
      ours.get(JOBS, own, mounted),
      ours.list(PODS, own, `job-name=${mounted}`),
      ours.list(SECRETS, own, `${LABELS.repositoryUid}=${uid},${LABELS.restoreUid}`),
      ours.list(SECRETS, own, `${alsoReads(uid ?? "")},${LABELS.restoreUid}`),
    ]);
  return {
    now: clock.now(),
    settings,
    repository,
    claim,
    volume,
    secrets: { password, access },
    mounted: { claim: mountedClaim, volume: mountedVolume, secret: mountedSecret },
    job,
    pods,
    users: users.length + others.length,
  };
}
