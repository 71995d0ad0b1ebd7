import { copyJson, stringAt } from "../json.ts";
import { formatTime, type KubeObject } from "../object.ts";
import { type ResourceDefinition, subjectOf } from "../registry/definition.ts";
import { conflict } from "../status-error.ts";
import type { Cluster, DeleteOptions } from "./context.ts";
import { readObject } from "./reader.ts";
import { mayGo } from "./updater.ts";

const FOREGROUND = "foregroundDeletion";
const ORPHAN = "orphan";
/** How long the node lets a pod end by itself, where neither request nor pod says. */
const DEFAULT_POD_GRACE_S = 30;

export interface Deletion {
  readonly object: KubeObject;
  /** False: it waits for finalizers, or for the node to end the pod. */
  readonly gone: boolean;
}

/**
 * Deletes an object, or marks it as being deleted while finalizers or a graceful pod are in the way.
 *
 * @throws StatusError NotFound, Conflict where a precondition does not hold
 */
export function deleteObject(
  cluster: Cluster,
  definition: ResourceDefinition,
  key: { readonly namespace: string; readonly name: string },
  options: DeleteOptions,
): Deletion {
  const old = readObject(cluster.store, definition, key.namespace, key.name);
  checkPreconditions(definition, old, options);
  const object = copyJson(old);
  markDeleted(cluster, definition, object, options);
  if (mayGo(object)) {
    if (options.dryRun) return { object, gone: true };
    return { object: cluster.store.remove(definition.storageKey, object), gone: true };
  }
  if (options.dryRun || sameMarks(object, old)) return { object, gone: false };
  return { object: cluster.store.put(definition.storageKey, object), gone: false };
}

function checkPreconditions(definition: ResourceDefinition, old: KubeObject, options: DeleteOptions): void {
  const { uid, resourceVersion } = options.preconditions;
  const subject = subjectOf(definition, old.metadata.name ?? "");
  if (uid !== undefined && uid !== old.metadata.uid) {
    throw conflict(
      subject,
      `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${old.metadata.uid}`,
    );
  }
  if (resourceVersion !== undefined && resourceVersion !== old.metadata.resourceVersion) {
    throw conflict(
      subject,
      `Precondition failed: ResourceVersion in precondition: ${resourceVersion}, ResourceVersion in object meta: ${old.metadata.resourceVersion}`,
    );
  }
}

function markDeleted(
  cluster: Cluster,
  definition: ResourceDefinition,
  object: KubeObject,
  options: DeleteOptions,
): void {
  const { metadata } = object;
  const grace = graceSeconds(object, options);
  setPropagation(object, options.propagationPolicy ?? chosenBefore(object) ?? definition.strategy.deletion);
  if (metadata.deletionTimestamp === undefined) {
    metadata.deletionTimestamp = formatTime(cluster.clock.now() + grace * 1000);
    metadata.deletionGracePeriodSeconds = grace;
    if (metadata.generation !== undefined) metadata.generation++;
  } else if (grace < (metadata.deletionGracePeriodSeconds ?? 0)) {
    // A shorter period takes effect; a longer one does not give back time.
    metadata.deletionTimestamp = formatTime(cluster.clock.now() + grace * 1000);
    metadata.deletionGracePeriodSeconds = grace;
  }
  if (definition.group === "" && definition.kind === "Namespace") object.status = { phase: "Terminating" };
}

/** Only a pod that a node may be running ends gracefully; its node then deletes it with a period of 0. */
function graceSeconds(object: KubeObject, options: DeleteOptions): number {
  if (object.kind !== "Pod" || object.apiVersion !== "v1") return 0;
  const phase = stringAt(object, "status", "phase");
  if (stringAt(object, "spec", "nodeName") === "" || phase === "Succeeded" || phase === "Failed") return 0;
  if (options.gracePeriodSeconds !== undefined) return Math.max(options.gracePeriodSeconds, 0);
  const spec = object.spec;
  const own =
    typeof spec === "object" && spec !== null && !Array.isArray(spec) ? spec.terminationGracePeriodSeconds : 0;
  return typeof own === "number" ? own : DEFAULT_POD_GRACE_S;
}

function chosenBefore(object: KubeObject): "Foreground" | "Orphan" | undefined {
  const finalizers = object.metadata.finalizers ?? [];
  if (finalizers.includes(ORPHAN)) return "Orphan";
  return finalizers.includes(FOREGROUND) ? "Foreground" : undefined;
}

/** The garbage collector, a controller, acts on these finalizers and takes them off. */
function setPropagation(object: KubeObject, policy: "Background" | "Foreground" | "Orphan"): void {
  const others = (object.metadata.finalizers ?? []).filter((name) => name !== FOREGROUND && name !== ORPHAN);
  if (policy === "Foreground") others.push(FOREGROUND);
  if (policy === "Orphan") others.push(ORPHAN);
  if (others.length === 0) delete object.metadata.finalizers;
  else object.metadata.finalizers = others;
}

function sameMarks(object: KubeObject, old: KubeObject): boolean {
  const marks = ({ metadata, status }: KubeObject) =>
    JSON.stringify([metadata.deletionTimestamp, metadata.deletionGracePeriodSeconds, metadata.finalizers, status]);
  return marks(object) === marks(old);
}
