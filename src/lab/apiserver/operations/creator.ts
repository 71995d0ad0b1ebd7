import { copyJson } from "../json.ts";
import type { KubeObject } from "../object.ts";
import { apiVersionOf, type ResourceDefinition, subjectOf } from "../registry/definition.ts";
import { alreadyExists, badRequest, forbidden, invalid, notFound } from "../status-error.ts";
import { validateMetadata } from "../validation/metadata.ts";
import type { Cluster, WriteOptions } from "./context.ts";
import { decodeObject } from "./decode.ts";
import { type RecordOwners, withUpdateRecorded } from "./managed.ts";
import { initialMetadata } from "./metadata.ts";

/**
 * Creates an object from a body in the form of `version`. What it returns is the stored form.
 *
 * @throws StatusError AlreadyExists, Invalid, BadRequest, or Forbidden where its namespace is being deleted
 */
export function createObject(
  cluster: Cluster,
  definition: ResourceDefinition,
  version: string,
  namespace: string,
  body: unknown,
  options: WriteOptions,
): KubeObject {
  const decoded = decodeObject(definition, version, body, options);
  return createDecoded(cluster, definition, version, namespace, decoded, options, withUpdateRecorded);
}

/** The same from an object that is already decoded and defaulted; server-side apply creates with its own owners. */
export function createDecoded(
  cluster: Cluster,
  definition: ResourceDefinition,
  version: string,
  namespace: string,
  decoded: KubeObject,
  options: WriteOptions,
  record: RecordOwners,
): KubeObject {
  const { strategy } = definition;
  const named = copyJson(decoded);
  initialMetadata(cluster, named, definition.namespaced ? namespace : "", strategy.generation);
  const object = copyJson(definition.toStorage(named));
  object.apiVersion = apiVersionOf(storageGroup(definition), definition.storageVersion);
  const name = object.metadata.name ?? "";
  if (definition.namespaced) admitIntoNamespace(cluster, definition, namespace, name);
  strategy.prepareCreate(object, cluster.store);
  const causes = [...validateMetadata(object.metadata, definition), ...strategy.validateCreate(object)];
  if (causes.length > 0) throw invalid(definition.group, definition.kind, name, causes);
  if (cluster.store.get(definition.storageKey, namespace, name) !== undefined) {
    throw alreadyExists(subjectOf(definition, name));
  }
  const recorded = record(definition, version, undefined, object, options, cluster.clock.now());
  return options.dryRun ? recorded : cluster.store.put(definition.storageKey, recorded);
}

/** Events are kept under one group however they came in. */
export function storageGroup(definition: ResourceDefinition): string {
  return definition.storageKey.slice(0, definition.storageKey.indexOf("/"));
}

function admitIntoNamespace(cluster: Cluster, definition: ResourceDefinition, namespace: string, name: string): void {
  if (namespace === "") throw badRequest("an empty namespace may not be set during creation");
  const found = cluster.store.get("/namespaces", "", namespace);
  if (found === undefined) throw notFound({ group: "", resource: "namespaces", name: namespace });
  if (found.metadata.deletionTimestamp !== undefined) {
    const why = `unable to create new content in namespace ${namespace} because it is being terminated`;
    const message = `namespace ${namespace} is being terminated`;
    throw forbidden(subjectOf(definition, name), why, [
      { reason: "NamespaceTerminating", message, field: "metadata.namespace" },
    ]);
  }
}
