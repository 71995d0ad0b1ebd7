import { isObject, type JsonObject, type JsonValue, own } from "../json.ts";
import type { Schema } from "../schema/schema.ts";
import { badRequest } from "../status-error.ts";

/** How ownership looks at a value: as one leaf, field by field, or item by item. */
export type Structure = "leaf" | "map" | "list";

export const UNKNOWN: Schema = { preserveUnknownFields: true };

export function structureOf(schema: Schema, value: JsonValue | undefined): Structure {
  if (Array.isArray(value)) return schema.listType === "map" || schema.listType === "set" ? "list" : "leaf";
  if (isObject(value)) return schema.mapType === "atomic" ? "leaf" : "map";
  return "leaf";
}

/** The schema of a field. Where none is known, objects below are still looked at field by field. */
export function fieldSchema(schema: Schema, key: string): Schema {
  return schema.properties?.get(key) ?? schema.additionalProperties ?? UNKNOWN;
}

/** Known by name, as against a key of a map: such a field is owned by what is in it, not by itself. */
export function isNamedField(schema: Schema, key: string): boolean {
  return schema.properties?.has(key) ?? false;
}

export const fieldElement = (key: string) => `f:${key}`;

/** What tells an item of a keyed list or a set from the others, as a path element. */
export function itemElement(list: Schema, item: JsonValue): string {
  if (list.listType === "set") {
    if (typeof item === "object") throw badRequest("an item of a set must be a scalar");
    return `v:${JSON.stringify(item)}`;
  }
  if (!isObject(item)) throw badRequest("an item of a keyed list must be an object");
  const key: JsonObject = {};
  for (const name of [...(list.listMapKeys ?? [])].sort()) {
    const value = own(item, name) ?? list.items?.properties?.get(name)?.default;
    if (value !== undefined) key[name] = value;
  }
  if (Object.keys(key).length === 0) {
    throw badRequest(`an item of a keyed list omits all of its keys: ${(list.listMapKeys ?? []).join(", ")}`);
  }
  return `k:${JSON.stringify(key)}`;
}

/** The items of a list by their path elements; items that share one element are together. */
export function itemsByElement(list: Schema, items: readonly JsonValue[]): Map<string, JsonValue[]> {
  const byElement = new Map<string, JsonValue[]>();
  for (const item of items) {
    const element = itemElement(list, item);
    const same = byElement.get(element);
    if (same === undefined) byElement.set(element, [item]);
    else same.push(item);
  }
  return byElement;
}
