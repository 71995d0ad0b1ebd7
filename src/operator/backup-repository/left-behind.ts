import { alsoReads, LABELS } from "../../api/group.ts";
import type { Logger } from "../../base/logging.ts";
import { BACKUP_REPOSITORIES, CLAIMS, JOBS, PODS, SECRETS, STATEFUL_SETS, VOLUMES } from "../kinds.ts";
import type { Cluster } from "../runtime/cluster.ts";
import type { KubernetesObject, ResourceType } from "../runtime/objects.ts";
import type { OperatorSettings } from "../settings.ts";
import { mountNameOf } from "./mount.ts";

/** In the queue of BackupRepositories, for what none of them knows of any more. No namespace has no name. */
export const LEFT_BEHIND_KEY = "/left-behind";
/** How often it is looked whether the last restore that reads is gone. */
const LOOK_MS = 600_000;
const GONE_MS = 1000;

export interface LeftBehindOptions {
  /** The API server itself: what a watch does not know of yet would be taken for gone. */
  readonly cluster: Pick<Cluster, "list" | "delete">;
  readonly settings: Pick<OperatorSettings, "namespace">;
  readonly logger: Logger;
}

type Found = { readonly type: ResourceType; readonly object: KubernetesObject };

/**
 * Removes what was made for BackupRepositories that went without it: their finalizer was taken off by hand, and the copy of their credentials,
 * volume and claim stayed in the operator's namespace. Removed is only what bears the name and the label that this operator gives, for a uid that
 * no BackupRepository of the cluster has, and that nothing reads from any more. Milliseconds until it is to be looked again.
 */
export async function collectLeftBehind({ cluster, settings, logger }: LeftBehindOptions): Promise<number | undefined> {
  const own = settings.namespace;
  // What is left is listed before the owners are: whatever was made for one of them was so while that one was there.
  const made = new Map<string, Found[]>();
  // In the order in which they go: the claim before the volume that it is bound to.
  for (const type of [JOBS, CLAIMS, SECRETS, VOLUMES] as ResourceType[]) {
    const namespace = type.namespaced ? own : undefined;
    for (const object of await cluster.list(type, namespace, LABELS.repositoryUid)) {
      const { name, labels = {} } = object.metadata;
      const uid = labels[LABELS.repositoryUid] ?? "";
      // The plan of a restore bears the label, too, and tells who reads.
      if (name !== mountNameOf(uid) || labels[LABELS.restoreUid] !== undefined) continue;
      made.set(uid, [...(made.get(uid) ?? []), { type, object }]);
    }
  }
  if (made.size === 0) return undefined;
  for (const { metadata } of await cluster.list(BACKUP_REPOSITORIES, undefined)) made.delete(metadata.uid ?? "");
  let againMs: number | undefined;
  for (const [uid, objects] of made) {
    if (await isRead(cluster, own, uid)) {
      againMs ??= LOOK_MS;
      continue;
    }
    const [first] = objects;
    if (first === undefined) continue;
    againMs = GONE_MS;
    // One kind at a time, each seen to be gone before the next is: a pod of the Job mounts the claim.
    for (const { type, object } of objects.filter((each) => each.type.kind === first.type.kind)) {
      if (object.metadata.deletionTimestamp !== undefined) continue;
      await cluster.delete(type, object);
      logger.info({ kind: type.kind, name: object.metadata.name }, "removed: its BackupRepository is gone");
    }
  }
  return againMs;
}

/** Whether a restore was made that reads from it, or anything in the operator's namespace names what was made for it. */
async function isRead(cluster: Pick<Cluster, "list">, own: string, uid: string): Promise<boolean> {
  const readers = await Promise.all(
    [`${LABELS.repositoryUid}=${uid}`, alsoReads(uid)].map((label) =>
      cluster.list(SECRETS, own, `${label},${LABELS.restoreUid}`),
    ),
  );
  if (readers.flat().length > 0) return true;
  // Where a restore's plan was lost, its agent still mounts them. The name has the uid in it: nothing else contains it.
  const name = mountNameOf(uid);
  const [sets, pods, jobs] = await Promise.all([
    cluster.list(STATEFUL_SETS, own),
    cluster.list(PODS, own),
    cluster.list(JOBS, own),
  ]);
  // The Job that looked into the repository, and its pods, were made for it themselves.
  const others = [...sets, ...pods, ...jobs].filter(
    ({ metadata: { labels = {} } }) => labels[LABELS.repositoryUid] !== uid || labels[LABELS.restoreUid] !== undefined,
  );
  return others.some((object) => JSON.stringify(object).includes(name));
}
