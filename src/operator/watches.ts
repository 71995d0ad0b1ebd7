import { type BackupRepository, backupRepositorySpec } from "../api/backup-repository.ts";
import { LABELS } from "../api/group.ts";
import type { Clock } from "../base/clock.ts";
import type { Logger } from "../base/logging.ts";
import { LEFT_BEHIND_KEY } from "./backup-repository/left-behind.ts";
import {
  BACKUP_REPOSITORIES,
  CLAIMS,
  DISRUPTION_BUDGETS,
  INSTANCES,
  JOBS,
  NODES,
  type Node,
  PODS,
  type Pod,
  SECRETS,
  SERVICES,
  STATEFUL_SETS,
  STORAGE_CLASSES,
  VIRTUAL_MACHINES,
  VM_PROFILES,
  VM_RESTORES,
  VOLUMES,
} from "./kinds.ts";
import type { Watched } from "./runtime/cached-reads.ts";
import type { KubernetesObject, ResourceType } from "./runtime/objects.ts";
import { Reflector, type ReflectorOptions } from "./runtime/reflector.ts";
import type { Transport } from "./runtime/transport.ts";
import type { WorkQueue } from "./runtime/work-queue.ts";

export interface WatchOptions {
  readonly transport: Pick<Transport, "request" | "watch">;
  readonly clock: Clock;
  readonly logger: Logger;
  /** The operator's own. */
  readonly namespace: string;
  readonly restores: WorkQueue;
  readonly repositories: WorkQueue;
  /** A pod that looks at a node changed. Unless given, such pods are not watched. */
  readonly onNodeCheck?: (() => void) | undefined;
}

type Is = "present" | "gone";

/** A pod without what nobody reads: most of it. */
function asRead(object: KubernetesObject): KubernetesObject {
  const { apiVersion, kind, metadata, spec, status } = object as Pod;
  return {
    apiVersion,
    kind,
    metadata,
    spec: { nodeName: spec?.nodeName, volumes: spec?.volumes },
    status,
  } as KubernetesObject;
}

/** A node without what nobody reads, its list of images above all. */
function nodeAsRead(object: KubernetesObject): KubernetesObject {
  const { apiVersion, kind, metadata, spec, status } = object as Node;
  const { name, uid, resourceVersion, labels } = metadata;
  const conditions = status?.conditions?.map(({ type, status: is }) => ({ type, status: is }));
  const kept = { name, uid, resourceVersion, labels };
  return {
    apiVersion,
    kind,
    metadata: kept,
    spec: { unschedulable: spec?.unschedulable, taints: spec?.taints },
    status: { conditions, nodeInfo: { bootID: status?.nodeInfo?.bootID } },
  } as Node;
}

/**
 * What wakes the controllers: their own objects, what they made (found by labels), and what bad input may be mended by. What is
 * told here is only that something changed; the reconcilers read for themselves.
 */
export class Watches {
  readonly #options: WatchOptions;
  readonly #reflectors: readonly Reflector<KubernetesObject>[];
  /** Keys by uid. */
  readonly #restores = new Map<string, string>();
  readonly #repositories = new Map<string, string>();
  /** Names of nodes that are cordoned. */
  readonly #cordoned = new Set<string>();

  constructor(options: WatchOptions) {
    this.#options = options;
    const { namespace, onNodeCheck } = options;
    const made = { labelSelector: LABELS.restoreUid, onChange: (object: KubernetesObject) => this.#made(object) };
    const mounted = {
      labelSelector: LABELS.repositoryUid,
      onChange: (object: KubernetesObject) => this.#mounted(object),
      namespace,
    };
    this.#reflectors = [
      this.#watch(VM_RESTORES, { onChange: (object, is) => this.#own(object, is, this.#restores, options.restores) }),
      this.#watch(BACKUP_REPOSITORIES as ResourceType, {
        onChange: (object, is) => this.#repository(object as BackupRepository, is),
      }),
      this.#watch(NODES as ResourceType, {
        keep: nodeAsRead,
        onChange: (object, is) => this.#node(object as Node, is),
      }),
      this.#watch(STORAGE_CLASSES, { onChange: () => this.#wakeRestores("") }),
      ...[JOBS, PODS, CLAIMS, VIRTUAL_MACHINES, INSTANCES, VOLUMES].map((type) =>
        this.#watch(type as ResourceType, made),
      ),
      // Whose they are is all that is needed to see that nothing is to be done; what was learned can be large.
      this.#watch(VM_PROFILES, {
        keep: ({ apiVersion, kind, metadata }) => ({ apiVersion, kind, metadata }),
        onChange: () => undefined,
      }),
      ...[SECRETS, SERVICES, STATEFUL_SETS, DISRUPTION_BUDGETS].map((type) =>
        this.#watch(type as ResourceType, { ...made, namespace }),
      ),
      ...[JOBS, PODS, CLAIMS, SECRETS].map((type) => this.#watch(type as ResourceType, mounted)),
      ...(onNodeCheck === undefined
        ? []
        : [this.#watch(PODS as ResourceType, { labelSelector: LABELS.nodeCheck, namespace, onChange: onNodeCheck })]),
      this.#watch(VOLUMES as ResourceType, { labelSelector: mounted.labelSelector, onChange: mounted.onChange }),
    ];
  }

  /** What they know, for reading. */
  get watched(): readonly Watched[] {
    return this.#reflectors;
  }

  get synced(): boolean {
    return this.#reflectors.every((reflector) => reflector.synced);
  }

  /**
   * Waits until each is synced or has failed to be (a kind that the cluster does not have never is), but no longer than so many
   * milliseconds, or until the signal.
   */
  async untilTried(limitMs: number, signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    const end = clock.monotonic() + limitMs;
    while (!this.#reflectors.every(({ tried }) => tried) && clock.monotonic() < end && !signal.aborted)
      await clock.sleep(20, signal).catch(() => undefined);
  }

  /** Runs until the signal. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all(this.#reflectors.map((reflector) => reflector.run(signal)));
  }

  #watch(
    type: ResourceType,
    how: Pick<ReflectorOptions<KubernetesObject>, "labelSelector" | "namespace" | "onChange" | "keep">,
  ): Reflector<KubernetesObject> {
    const { transport, clock, logger } = this.#options;
    const keep = type.kind === PODS.kind ? { keep: asRead } : {};
    return new Reflector({ transport, clock, logger, type, ...keep, ...how });
  }

  #own({ metadata }: KubernetesObject, is: Is, keys: Map<string, string>, queue: WorkQueue): void {
    const key = `${metadata.namespace}/${metadata.name}`;
    if (is === "gone") keys.delete(metadata.uid ?? "");
    else keys.set(metadata.uid ?? "", key);
    queue.add(key);
  }

  #repository(object: BackupRepository, is: Is): void {
    this.#own(object, is, this.#repositories, this.#options.repositories);
    // Its finalizer may have been taken off by hand.
    if (is === "gone") this.#options.repositories.add(LEFT_BEHIND_KEY);
    const allowed = backupRepositorySpec.safeParse(object.spec).data?.allowedNamespaces ?? [];
    for (const namespace of [object.metadata.namespace, ...allowed]) this.#wakeRestores(`${namespace}/`);
  }

  #made({ metadata }: KubernetesObject): void {
    const key = this.#restores.get(metadata.labels?.[LABELS.restoreUid] ?? "");
    if (key !== undefined) this.#options.restores.add(key);
  }

  /** Whose agent is on a node that is cordoned, or is no longer. A node tells of itself all the time: the rest is no news. */
  #node({ metadata, spec }: Node, is: Is): void {
    const isCordoned = is === "present" && spec?.unschedulable === true;
    if (this.#cordoned.has(metadata.name) === isCordoned) return;
    if (isCordoned) this.#cordoned.add(metadata.name);
    else this.#cordoned.delete(metadata.name);
    for (const watched of this.#reflectors.filter(({ type }) => type.kind === PODS.kind)) {
      for (const pod of watched.objects()) if ((pod as Pod).spec?.nodeName === metadata.name) this.#made(pod);
    }
  }

  #mounted({ metadata }: KubernetesObject): void {
    const key = this.#repositories.get(metadata.labels?.[LABELS.repositoryUid] ?? "");
    // Where it is not known yet, nothing is found to be left behind.
    this.#options.repositories.add(key ?? LEFT_BEHIND_KEY);
  }

  #wakeRestores(prefix: string): void {
    for (const key of this.#restores.values()) if (key.startsWith(prefix)) this.#options.restores.add(key);
  }
}
