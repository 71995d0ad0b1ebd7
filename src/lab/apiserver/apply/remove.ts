import { isObject, type JsonObject, type JsonValue, setOwn } from "../json.ts";
import type { Schema } from "../schema/schema.ts";
import { FieldSet } from "./field-set.ts";
import { fieldElement, fieldSchema, isNamedField, itemElement, structureOf, UNKNOWN } from "./structure.ts";

/**
 * Without the fields of a set. A list or map that loses all it had goes too; what is atomic goes or stays as a whole,
 * by its own path.
 */
export function removeFields(schema: Schema, value: JsonValue, remove: FieldSet): JsonValue | undefined {
  switch (structureOf(schema, value)) {
    case "leaf":
      return Array.isArray(value) || isObject(value) ? undefined : value;
    case "map":
      return isObject(value) ? removeFromMap(schema, value, remove) : value;
    case "list":
      return Array.isArray(value) ? removeFromList(schema, value, remove) : value;
  }
}

function removeFromMap(schema: Schema, value: JsonObject, remove: FieldSet): JsonObject | undefined {
  const left: JsonObject = {};
  for (const [key, field] of Object.entries(value)) {
    const element = fieldElement(key);
    if (field === undefined || remove.members.has(element)) continue;
    const below = remove.below(element);
    const rest = below.isEmpty ? field : removeFields(fieldSchema(schema, key), field, below);
    if (rest !== undefined) setOwn(left, key, rest);
  }
  return Object.keys(left).length === 0 ? undefined : left;
}

function removeFromList(schema: Schema, value: JsonValue[], remove: FieldSet): JsonValue[] | undefined {
  const left: JsonValue[] = [];
  for (const item of value) {
    const element = itemElement(schema, item);
    if (remove.members.has(element)) continue;
    const below = remove.below(element);
    left.push(below.isEmpty ? item : (removeFields(schema.items ?? UNKNOWN, item, below) ?? null));
  }
  return left.length === 0 ? undefined : left;
}

/** The set with every named field that leads to one of its fields: removing those removes what would be left empty. */
export function withNamedFields(set: FieldSet, schema: Schema): FieldSet {
  const members = new Set(set.members);
  const children: [string, FieldSet][] = [];
  for (const [element, child] of set.children) {
    const key = element.slice(2);
    const isField = element.startsWith("f:");
    if (isField && isNamedField(schema, key)) members.add(element);
    children.push([element, withNamedFields(child, isField ? fieldSchema(schema, key) : (schema.items ?? UNKNOWN))]);
  }
  return new FieldSet(members, children);
}
