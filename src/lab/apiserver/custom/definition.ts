import { arrayAt, isObject, type JsonObject, type JsonValue, objectAt, stringAt } from "../json.ts";
import type { KubeObject } from "../object.ts";
import {
  apiVersionOf,
  type Column,
  type ResourceDefinition,
  type ScalePaths,
  type VersionDefinition,
} from "../registry/definition.ts";
import { validateValue } from "../schema/validate.ts";
import { ageColumn, ageOf, nameColumn } from "../tables/columns.ts";
import { parseJsonPath } from "../tables/json-path.ts";
import { customResourceSchema } from "./openapi-schema.ts";

/** The resource that a CustomResourceDefinition defines. */
export function customDefinition(crd: KubeObject): ResourceDefinition {
  const group = stringAt(crd, "spec", "group");
  const names = objectAt(crd, "spec", "names");
  const kind = stringAt(names, "kind");
  const served = arrayAt(crd, "spec", "versions")
    .filter(isObject)
    .filter((version) => version.served === true);
  const storage = arrayAt(crd, "spec", "versions")
    .filter(isObject)
    .find((version) => version.storage === true);
  const storageVersion = stringAt(storage, "name");
  const versions = served.map((version) => versionDefinition(version, group, kind)).sort(byPriority);
  const stored = versions.find((version) => version.version === storageVersion);
  const schema = stored?.schema ?? customResourceSchema(undefined, kind);
  const hasStatus = versions.some((version) => version.status);
  const validate = (object: KubeObject) =>
    validateValue(schema, object, "").filter((cause) => !cause.field.startsWith("metadata"));
  return {
    group,
    resource: stringAt(names, "plural"),
    singular: stringAt(names, "singular") || kind.toLowerCase(),
    kind,
    listKind: stringAt(names, "listKind") || `${kind}List`,
    shortNames: strings(names.shortNames),
    categories: strings(names.categories),
    namespaced: stringAt(crd, "spec", "scope") === "Namespaced",
    versions,
    storageVersion,
    custom: true,
    storageKey: `${group}/${stringAt(names, "plural")}`,
    // Conversion strategy `None`: only the version's name changes.
    toVersion: (object, version) => ({ ...object, apiVersion: apiVersionOf(group, version) }),
    toStorage: (object) => object,
    subresources: [],
    strategy: {
      generation: true,
      returnsDeleted: false,
      requiresRevision: true,
      deletion: "Background",
      applyDefaults: () => {},
      prepareCreate: (object) => {
        if (hasStatus) delete object.status;
      },
      prepareUpdate: () => {},
      validateCreate: validate,
      validateUpdate: validate,
    },
  };
}

const strings = (value: JsonValue | undefined) =>
  (Array.isArray(value) ? value : []).filter((item) => typeof item === "string");

function versionDefinition(version: JsonObject, group: string, kind: string): VersionDefinition {
  const name = stringAt(version, "name");
  const scale = objectAt(version, "subresources", "scale");
  const columns = arrayAt(version, "additionalPrinterColumns").filter(isObject);
  return {
    version: name,
    schema: customResourceSchema(objectAt(version, "schema").openAPIV3Schema, `${group}.${name}.${kind}`),
    columns: [nameColumn, ...(columns.length === 0 ? [ageColumn] : columns.map(printerColumn))],
    status: isObject(objectAt(version, "subresources").status),
    scale: Object.keys(scale).length === 0 ? undefined : scalePaths(scale),
    ...(version.deprecated === true
      ? { deprecation: stringAt(version, "deprecationWarning") || `${group}/${name} ${kind} is deprecated` }
      : {}),
  };
}

function scalePaths(scale: JsonObject): ScalePaths {
  const path = (text: string) => text.split(".").filter((part) => part !== "");
  const selector = stringAt(scale, "labelSelectorPath");
  return {
    specReplicas: path(stringAt(scale, "specReplicasPath")),
    statusReplicas: path(stringAt(scale, "statusReplicasPath")),
    labelSelector: selector === "" ? [] : path(selector),
  };
}

function printerColumn(column: JsonObject): Column {
  const type = stringAt(column, "type") as Column["type"];
  const path = parseJsonPath(stringAt(column, "jsonPath"));
  return {
    name: stringAt(column, "name"),
    type,
    format: stringAt(column, "format"),
    description: stringAt(column, "description"),
    priority: typeof column.priority === "number" ? column.priority : 0,
    value: (object, now) => cellOf(path?.(object) ?? [], type, now),
  };
}

/** Several values are joined by commas; none is an empty cell. */
function cellOf(values: readonly JsonValue[], type: Column["type"], now: number): JsonValue {
  const [first] = values;
  if (first === undefined || first === null) return null;
  if (type === "date") return typeof first === "string" ? ageOf(first, now) : null;
  if (type === "integer" || type === "number") return typeof first === "number" ? first : null;
  if (type === "boolean") return typeof first === "boolean" ? first : null;
  return values.map((value) => (typeof value === "object" ? JSON.stringify(value) : String(value))).join(",");
}

/** Stable versions first, then beta, then alpha; higher numbers first; whatever is no such version last. */
function byPriority(a: VersionDefinition, b: VersionDefinition): number {
  const [left, right] = [priority(a.version), priority(b.version)];
  for (const [index, value] of left.entries()) {
    const difference = (right[index] ?? 0) - value;
    if (difference !== 0) return difference;
  }
  return a.version < b.version ? -1 : 1;
}

function priority(version: string): readonly number[] {
  const match = /^v(\d+)(?:(alpha|beta)(\d+))?$/.exec(version);
  if (match === null) return [0, 0, 0, 0];
  const [, major = "0", stage, minor = "0"] = match;
  return [1, stage === undefined ? 3 : stage === "beta" ? 2 : 1, Number(major), Number(minor)];
}
