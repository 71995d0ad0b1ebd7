import { copyJson, equalJson } from "../json.ts";
import type { KubeObject } from "../object.ts";
import { apiVersionOf, type ResourceDefinition, subjectOf } from "../registry/definition.ts";
import { type Cause, conflict, invalid, objectModified } from "../status-error.ts";
import { validateMetadata, validateMetadataUpdate } from "../validation/metadata.ts";
import type { Cluster, WriteOptions } from "./context.ts";
import { storageGroup } from "./creator.ts";
import { type RecordOwners, withUpdateRecorded } from "./managed.ts";
import { carryMetadata, desiredState, sameObject } from "./metadata.ts";
import { readObject } from "./reader.ts";

/**
 * Replaces one object by what `change` makes of it. `change` gets the object in the form of `version` (shared: it must
 * not change it) and returns the new one, decoded and defaulted, in the same form.
 *
 * @returns the stored form; the old one unchanged where nothing differs
 * @throws StatusError NotFound, Conflict, Invalid
 */
export function updateObject(
  cluster: Cluster,
  definition: ResourceDefinition,
  version: string,
  key: { readonly namespace: string; readonly name: string },
  options: WriteOptions,
  change: (old: KubeObject) => KubeObject,
  record: RecordOwners = withUpdateRecorded,
): KubeObject {
  const old = readObject(cluster.store, definition, key.namespace, key.name);
  const wanted = change(definition.toVersion(old, version));
  checkPreconditions(definition, old, wanted, options);
  const object = copyJson(definition.toStorage(wanted));
  object.apiVersion = apiVersionOf(storageGroup(definition), definition.storageVersion);
  carryMetadata(object.metadata, old.metadata);
  object.metadata.resourceVersion = old.metadata.resourceVersion ?? "";
  keepOtherParts(definition, object, old, options.subresource);
  const causes = validated(definition, object, old, options.subresource);
  if (causes.length > 0) throw invalid(definition.group, definition.kind, key.name, causes);
  const recorded = record(definition, version, old, object, options, cluster.clock.now());
  if (mayGo(recorded)) return options.dryRun ? recorded : cluster.store.remove(definition.storageKey, recorded);
  if (sameObject(recorded, old)) return old;
  return options.dryRun ? recorded : cluster.store.put(definition.storageKey, recorded);
}

function checkPreconditions(
  definition: ResourceDefinition,
  old: KubeObject,
  wanted: KubeObject,
  options: WriteOptions,
): void {
  const subject = subjectOf(definition, old.metadata.name ?? "");
  const { uid, resourceVersion } = wanted.metadata;
  if ((uid ?? "") !== "" && uid !== old.metadata.uid) {
    throw conflict(
      subject,
      `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${old.metadata.uid}`,
    );
  }
  if ((resourceVersion ?? "") === "" || resourceVersion === "0") {
    if (!definition.strategy.requiresRevision || options.subresource === "scale") return;
    const message = "Invalid value: 0x0: must be specified for an update";
    throw invalid(definition.group, definition.kind, subject.name, [
      { reason: "FieldValueInvalid", message, field: "metadata.resourceVersion" },
    ]);
  }
  if (resourceVersion !== old.metadata.resourceVersion) throw objectModified(subject);
}

/** A write to the object leaves its status alone, and a write to the status leaves everything else alone. */
function keepOtherParts(
  definition: ResourceDefinition,
  object: KubeObject,
  old: KubeObject,
  subresource: string,
): void {
  const hasStatus = definition.versions.some((version) => version.status);
  if (subresource === "status") {
    const { status } = object;
    const { labels, annotations, finalizers, managedFields, resourceVersion } = object.metadata;
    for (const key of Object.keys(object)) delete object[key];
    Object.assign(object, copyJson(old));
    if (status === undefined) delete object.status;
    else object.status = status;
    object.metadata.managedFields = managedFields ?? [];
    object.metadata.resourceVersion = resourceVersion ?? "";
    if (!definition.custom) {
      Object.assign(object.metadata, { labels, annotations, finalizers });
      for (const key of ["labels", "annotations", "finalizers"]) {
        if (object.metadata[key] === undefined) delete object.metadata[key];
      }
    }
    return;
  }
  if (hasStatus) {
    if (old.status === undefined) delete object.status;
    else object.status = copyJson(old.status);
  }
  definition.strategy.prepareUpdate(object, old, subresource);
  if (definition.strategy.generation && !equalJson(desiredState(object, hasStatus), desiredState(old, hasStatus))) {
    object.metadata.generation = (old.metadata.generation ?? 0) + 1;
  }
}

function validated(definition: ResourceDefinition, object: KubeObject, old: KubeObject, subresource: string): Cause[] {
  const causes = [
    ...validateMetadata(object.metadata, definition),
    ...validateMetadataUpdate(object.metadata, old.metadata),
  ];
  if (subresource === "" || subresource === "scale" || definition.custom) {
    causes.push(...definition.strategy.validateUpdate(object, old));
  }
  return causes;
}

/** An object that is being deleted goes when nothing holds it back any more. */
export function mayGo(object: KubeObject): boolean {
  const { deletionTimestamp, deletionGracePeriodSeconds, finalizers } = object.metadata;
  if (deletionTimestamp === undefined || (finalizers ?? []).length > 0) return false;
  if ((deletionGracePeriodSeconds ?? 0) > 0) return false;
  return object.kind !== "Namespace" || object.apiVersion !== "v1" || namespaceFinalizers(object).length === 0;
}

function namespaceFinalizers(namespace: KubeObject): readonly unknown[] {
  const spec = namespace.spec;
  if (typeof spec !== "object" || spec === null || Array.isArray(spec)) return [];
  return Array.isArray(spec.finalizers) ? spec.finalizers : [];
}
