import { equalJson, isObject, type JsonObject, type JsonValue, own } from "../json.ts";
import type { Schema } from "../schema/schema.ts";
import { FieldSet } from "./field-set.ts";
import { fieldElement, fieldSchema, itemsByElement, structureOf, UNKNOWN } from "./structure.ts";

/** Which fields differ between two values. */
export interface Comparison {
  readonly added: FieldSet;
  readonly modified: FieldSet;
  readonly removed: FieldSet;
}

type Side = JsonValue | undefined;

export function compareFields(schema: Schema, before: Side, after: Side): Comparison {
  const comparison = { added: new FieldSet(), modified: new FieldSet(), removed: new FieldSet() };
  compare(comparison, schema, before, after, []);
  return comparison;
}

function compare(to: Comparison, schema: Schema, before: Side, after: Side, path: readonly string[]): void {
  const structures = new Set(
    [before, after].filter((side) => side !== undefined).map((side) => structureOf(schema, side)),
  );
  // Null takes whatever form the other side has.
  if (structures.size > 1 && (before === null || after === null)) structures.delete("leaf");
  if (structures.size !== 1 || structures.has("leaf") || (isHollow(before) && isHollow(after))) {
    leaf(to, before, after, path);
    return;
  }
  if (structures.has("map")) compareMaps(to, schema, before, after, path);
  else compareLists(to, schema, before, after, path);
  if (before === undefined) to.added.insert(path);
  else if (after === undefined) to.removed.insert(path);
}

function isHollow(side: Side): boolean {
  if (side === undefined || side === null) return true;
  return Array.isArray(side) ? side.length === 0 : isObject(side) && Object.keys(side).length === 0;
}

function leaf(to: Comparison, before: Side, after: Side, path: readonly string[]): void {
  if (before === undefined) to.added.insert(path);
  else if (after === undefined) to.removed.insert(path);
  else if (!equalJson(before, after)) to.modified.insert(path);
}

function compareMaps(to: Comparison, schema: Schema, before: Side, after: Side, path: readonly string[]): void {
  const left: JsonObject = isObject(before) ? before : {};
  const right: JsonObject = isObject(after) ? after : {};
  for (const key of new Set([...Object.keys(left), ...Object.keys(right)])) {
    const [was, is] = [own(left, key), own(right, key)];
    if (was === undefined && is === undefined) continue;
    compare(to, fieldSchema(schema, key), was, is, [...path, fieldElement(key)]);
  }
}

function compareLists(to: Comparison, schema: Schema, before: Side, after: Side, path: readonly string[]): void {
  const left = itemsByElement(schema, Array.isArray(before) ? before : []);
  const right = itemsByElement(schema, Array.isArray(after) ? after : []);
  const items = schema.items ?? UNKNOWN;
  for (const element of new Set([...left.keys(), ...right.keys()])) {
    const below = [...path, element];
    const was = left.get(element) ?? [];
    const is = right.get(element) ?? [];
    if (was.length <= 1 && is.length <= 1) compare(to, items, was[0], is[0], below);
    else if (was.length > 1 && is.length > 1) {
      if (!equalJson(was, is)) to.modified.insert(below);
    } else if (was.length > 1) {
      if (is.length > 0) compare(to, items, undefined, is[0], below);
      to.removed.insert(below);
    } else {
      if (was.length > 0) compare(to, items, was[0], undefined, below);
      to.added.insert(below);
    }
  }
}
