import { backupRepositorySpec } from "../../api/backup-repository.ts";
import type { VMRestore } from "../../api/vm-restore.ts";
import { conditionOf, isTrue } from "../conditions.ts";

/** How many restores may be under way at once; undefined: any number. */
export interface Limits {
  readonly perNamespace: number | undefined;
  /** By {@link repositoryKey}; those that are not named have none. */
  readonly perRepository: ReadonlyMap<string, number>;
}

/** One restore, as far as queueing goes. */
export interface Contender {
  readonly uid: string;
  /** Milliseconds since the epoch. First come, first served; of two made in the same second, the lesser uid. */
  readonly created: number;
  readonly namespace: string;
  /** Keys of those that it reads, each once. */
  readonly repositories: readonly string[];
  readonly state: "waiting" | "holding" | "neither";
}

export type Turn =
  | { readonly isTurn: true }
  | {
      readonly isTurn: false;
      /** The repository that has no place for it, by its key; undefined: its namespace has none. */
      readonly repository: string | undefined;
      /** Its place among those that wait for the same, from 1. */
      readonly position: number;
      readonly waiting: number;
      readonly limit: number;
    };

const UNDER_WAY = ["Preparing", "Staging", "Launching", "Running", "Relocating", "CuttingOver", "RollingBack"];
/** It waits for people or a time, and reads little or nothing meanwhile: it must not hold up all others for as long. */
const AT_REST = [
  ...["AwaitingBegin", "Paused", "RolledBack", "RollBackDecided", "AwaitingApproval", "AwaitingTime"],
  ...["LiveMigrationNotPossible", "LiveMigrationGivenUp", "VolumesChanged", "MachineDependsOnAgent", "LabelLost"],
];

export function repositoryKey(namespace: string, name: string): string {
  return `${namespace}/${name}`;
}

/** Pure. What stands in a restore's status decides; a spec that nobody can follow contends for nothing. */
export function contenderOf({ metadata, spec, status }: VMRestore): Contender {
  const namespace = metadata.namespace ?? "";
  return {
    uid: metadata.uid ?? "",
    created: Date.parse(metadata.creationTimestamp ?? "") || 0,
    namespace,
    repositories: repositoriesOf(spec, namespace),
    state: stateOf(metadata.deletionTimestamp !== undefined, status),
  };
}

/** Those of every VMRestore are looked at each time: only the names are taken out, the rest of the spec is not parsed. */
function repositoriesOf(spec: unknown, namespace: string): string[] {
  const { source } = (spec ?? {}) as { source?: { repository?: unknown; disks?: unknown } };
  const disks: readonly { repository?: unknown }[] = Array.isArray(source?.disks) ? source.disks : [];
  const references = [source?.repository, ...disks.map((disk) => disk?.repository)] as (
    | { name?: unknown; namespace?: unknown }
    | undefined
  )[];
  const keys = references.flatMap((reference) => {
    if (typeof reference?.name !== "string") return [];
    return repositoryKey(typeof reference.namespace === "string" ? reference.namespace : namespace, reference.name);
  });
  return [...new Set(keys)];
}

function stateOf(isDeleted: boolean, status: VMRestore["status"]): Contender["state"] {
  const conditions = status?.conditions;
  const admitted = conditionOf(conditions, "Admitted");
  if (admitted?.status === "False") {
    const isRefused = conditionOf(conditions, "SpecValid")?.status === "False";
    return admitted.reason === "Queued" && !isDeleted && !isRefused ? "waiting" : "neither";
  }
  const isUnderWay = admitted?.status === "True" || UNDER_WAY.includes(status?.phase ?? "");
  return isUnderWay && !isAtRest(status) ? "holding" : "neither";
}

function isAtRest(status: VMRestore["status"]): boolean {
  const conditions = status?.conditions;
  if (status?.phase === "Failed" || isTrue(conditions, "Completed") || isTrue(conditions, "CutOver")) return true;
  // A live mount has what it needs; what it reads on is a guest's ordinary load.
  if (status?.strategy === "None" && isTrue(conditions, "GuestReady")) return true;
  return ["Relocated", "CutOver", "TornDown"].some((type) =>
    AT_REST.includes(conditionOf(conditions, type)?.reason ?? ""),
  );
}

/**
 * Whose turn it is. The one that came first goes first. One that its namespace has no room for holds up nobody elsewhere; one
 * that only a repository has no room for keeps its place in the namespace and in its other repositories, so that nobody overtakes it.
 *
 * @param contenders all of them, each once; `me` is one that waits
 */
export function turnOf(me: string, contenders: readonly Contender[], limits: Limits): Turn {
  const inNamespace = new Map<string, number>();
  const inRepository = new Map<string, number>();
  const take = (taken: Map<string, number>, key: string): void => void taken.set(key, (taken.get(key) ?? 0) + 1);
  const isFull = (taken: Map<string, number>, key: string, limit: number | undefined): boolean =>
    limit !== undefined && (taken.get(key) ?? 0) >= limit;
  for (const { state, namespace, repositories } of contenders) {
    if (state !== "holding") continue;
    take(inNamespace, namespace);
    for (const repository of repositories) take(inRepository, repository);
  }
  const queue = contenders.filter(({ state }) => state === "waiting").sort(inOrder);
  for (const { uid, namespace, repositories } of queue) {
    const noRoom = isFull(inNamespace, namespace, limits.perNamespace);
    const full = repositories.find((key) => isFull(inRepository, key, limits.perRepository.get(key)));
    if (uid === me) {
      if (!noRoom && full === undefined) return { isTurn: true };
      const repository = noRoom ? undefined : full;
      const rivals = queue.filter((other) =>
        repository === undefined ? other.namespace === namespace : other.repositories.includes(repository),
      );
      const limit = repository === undefined ? limits.perNamespace : limits.perRepository.get(repository);
      const position = rivals.findIndex((other) => other.uid === me) + 1;
      return { isTurn: false, repository, position, waiting: rivals.length, limit: limit ?? 0 };
    }
    if (noRoom) continue;
    take(inNamespace, namespace);
    // Where there is no place for it, there is none for those behind it either.
    for (const repository of repositories) take(inRepository, repository);
  }
  return { isTurn: true };
}

function inOrder(a: Contender, b: Contender): number {
  return a.created - b.created || (a.uid < b.uid ? -1 : 1);
}

/** The limit that a BackupRepository sets; undefined: none. */
export function repositoryLimit(spec: unknown): number | undefined {
  return backupRepositorySpec.safeParse(spec).data?.maxConcurrentRestores;
}
