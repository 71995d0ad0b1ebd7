import type { JsonValue } from "../json.ts";
import { parseBody } from "../media.ts";
import type { KubeObject } from "../object.ts";
import { applyJsonPatch } from "../patches/json-patch.ts";
import { applyMergePatch } from "../patches/merge-patch.ts";
import { applyStrategicMergePatch } from "../patches/strategic-merge-patch.ts";
import type { ResourceDefinition } from "../registry/definition.ts";
import type { Schema } from "../schema/schema.ts";
import { badRequest, unsupportedMediaType } from "../status-error.ts";
import { applyObject } from "./applier.ts";
import type { Cluster, WriteOptions } from "./context.ts";
import { decodeObject } from "./decode.ts";
import { schemaOf } from "./managed.ts";
import { updateObject } from "./updater.ts";

export interface Patch {
  readonly mediaType: string;
  readonly bytes: Buffer;
  /** Server-side apply: take fields over from other managers. */
  readonly force: boolean;
}

const JSON_PATCH = "application/json-patch+json";
const MERGE_PATCH = "application/merge-patch+json";
const STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json";
const APPLY_PATCH = "application/apply-patch+yaml";

/**
 * Patches one object in the form of `version`, by the patch type that the media type names.
 *
 * @throws StatusError UnsupportedMediaType, and whatever an update may be refused for
 */
export function patchObject(
  cluster: Cluster,
  definition: ResourceDefinition,
  version: string,
  key: { readonly namespace: string; readonly name: string },
  patch: Patch,
  options: WriteOptions,
): { readonly object: KubeObject; readonly created: boolean } {
  if (patch.mediaType === APPLY_PATCH) {
    const body = parseBody(patch.bytes, APPLY_PATCH);
    return applyObject(cluster, definition, version, key, body, patch.force, options);
  }
  const change = patchFunction(patch, definition.custom ? undefined : schemaOf(definition, version));
  const object = updateObject(cluster, definition, version, key, options, (old) =>
    decodeObject(definition, version, change(old), options),
  );
  return { object, created: false };
}

/** @param schema of a built-in kind; custom resources take no strategic merge patches */
function patchFunction(patch: Patch, schema: Schema | undefined): (old: KubeObject) => JsonValue {
  switch (patch.mediaType) {
    case JSON_PATCH: {
      const operations = parseJson(patch.bytes);
      return (old) => applyJsonPatch(old, operations);
    }
    case MERGE_PATCH: {
      const body = parseJson(patch.bytes);
      return (old) => applyMergePatch(old, body);
    }
  }
  if (patch.mediaType === STRATEGIC_MERGE_PATCH && schema !== undefined) {
    const body = parseJson(patch.bytes);
    return (old) => applyStrategicMergePatch(schema, old, body);
  }
  const strategic = schema === undefined ? [] : [STRATEGIC_MERGE_PATCH];
  throw unsupportedMediaType([JSON_PATCH, MERGE_PATCH, ...strategic, APPLY_PATCH]);
}

function parseJson(bytes: Buffer): JsonValue {
  try {
    return JSON.parse(bytes.toString("utf8")) as JsonValue;
  } catch {
    throw badRequest("the patch is no JSON");
  }
}

/** A patch of something that is not stored itself, such as a Scale: JSON and merge patches only. */
export function patchJson(value: KubeObject, patch: Patch): JsonValue {
  return patchFunction(patch, undefined)(value);
}
