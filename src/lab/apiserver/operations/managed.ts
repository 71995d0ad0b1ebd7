import { ownedAfterUpdate, type Writer } from "../apply/ownership.ts";
import { copyJson } from "../json.ts";
import type { KubeObject } from "../object.ts";
import { apiVersionOf, type ResourceDefinition } from "../registry/definition.ts";
import type { Schema } from "../schema/schema.ts";
import { anySchema } from "../schema/schema.ts";
import type { WriteOptions } from "./context.ts";

/** Notes in `managedFields` who set which fields; gets and returns the stored form. */
export type RecordOwners = (
  definition: ResourceDefinition,
  version: string,
  old: KubeObject | undefined,
  object: KubeObject,
  options: WriteOptions,
  now: number,
) => KubeObject;

export const withUpdateRecorded: RecordOwners = (definition, version, old, object, options, now) => {
  const before = old === undefined ? undefined : definition.toVersion(old, version);
  const after = definition.toVersion(object, version);
  const writer = writerOf(definition, version, "Update", options);
  return withManagedFields(object, ownedAfterUpdate(schemaOf(definition, version), before, after, writer, now));
};

export function withManagedFields(
  object: KubeObject,
  managedFields: KubeObject["metadata"]["managedFields"],
): KubeObject {
  const copy = copyJson(object);
  if (managedFields === undefined || managedFields.length === 0) delete copy.metadata.managedFields;
  else copy.metadata.managedFields = managedFields;
  return copy;
}

export function writerOf(
  definition: ResourceDefinition,
  version: string,
  operation: "Apply" | "Update",
  options: WriteOptions,
): Writer {
  const apiVersion = apiVersionOf(definition.group, version);
  return { name: options.manager, operation, apiVersion, subresource: options.subresource };
}

export function schemaOf(definition: ResourceDefinition, version: string): Schema {
  return definition.versions.find((candidate) => candidate.version === version)?.schema ?? anySchema;
}
