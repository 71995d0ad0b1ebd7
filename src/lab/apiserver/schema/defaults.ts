import { copyJson, isObject, type JsonValue, own, setOwn } from "../json.ts";
import type { Schema } from "./schema.ts";

/** Fills in the defaults that the schema names, in place; only below objects that are there. */
export function applyDefaults(schema: Schema, value: JsonValue): void {
  if (Array.isArray(value)) {
    if (schema.items !== undefined) for (const item of value) applyDefaults(schema.items, item);
    return;
  }
  if (!isObject(value)) return;
  for (const [key, field] of schema.properties ?? []) {
    const present = own(value, key);
    const isMissing = present === undefined || (present === null && field.nullable !== true);
    if (isMissing && field.default !== undefined) setOwn(value, key, copyJson(field.default));
    const filled = own(value, key);
    if (filled !== undefined) applyDefaults(field, filled);
  }
  if (schema.additionalProperties !== undefined) {
    for (const [key, field] of Object.entries(value)) {
      if (field !== undefined && schema.properties?.has(key) !== true)
        applyDefaults(schema.additionalProperties, field);
    }
  }
}
