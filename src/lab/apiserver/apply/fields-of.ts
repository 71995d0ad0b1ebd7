import { isObject, type JsonValue } from "../json.ts";
import type { Schema } from "../schema/schema.ts";
import { FieldSet } from "./field-set.ts";
import { fieldElement, fieldSchema, isNamedField, itemsByElement, structureOf } from "./structure.ts";

/** The fields that a value sets: its leaves, the items of its lists, the keys of its maps. */
export function fieldsOf(schema: Schema, value: JsonValue): FieldSet {
  const set = new FieldSet();
  collect(schema, value, [], set);
  return set;
}

function collect(schema: Schema, value: JsonValue, path: readonly string[], set: FieldSet): void {
  switch (structureOf(schema, value)) {
    case "leaf":
      set.insert(path);
      return;
    case "map":
      for (const [key, field] of Object.entries(isObject(value) ? value : {})) {
        if (field === undefined) continue;
        const below = [...path, fieldElement(key)];
        collect(fieldSchema(schema, key), field, below, set);
        const isEmpty = field === null || (isObject(field) && Object.keys(field).length === 0);
        if (isEmpty || !isNamedField(schema, key)) set.insert(below);
      }
      return;
    case "list":
      for (const [element, items] of itemsByElement(schema, Array.isArray(value) ? value : [])) {
        const below = [...path, element];
        const [item] = items;
        // Items that can't be told apart are owned together.
        if (items.length === 1 && item !== undefined) collect(schema.items ?? {}, item, below, set);
        set.insert(below);
      }
  }
}
