import { copyJson, type JsonObject, type JsonValue } from "../json.ts";
import { formatTime, isKubeObject, type KubeObject } from "../object.ts";
import type { Schema } from "../schema/schema.ts";
import { badRequest } from "../status-error.ts";
import { FieldSet } from "./field-set.ts";
import { fieldsOf } from "./fields-of.ts";
import { disown, formatManagers, type Managers, managerId, parseManagers } from "./managers.ts";
import { mergeFields } from "./merge.ts";
import { compareOwnable, ownable, unmanaged, type Writer } from "./ownership.ts";
import { removeFields, withNamedFields } from "./remove.ts";

/** A field that the configuration wants to change and that belongs to somebody else. */
export interface Conflict {
  readonly manager: string;
  readonly operation: "Apply" | "Update";
  readonly apiVersion: string;
  readonly subresource: string;
  readonly time: string;
  readonly path: readonly string[];
}

/** What server-side apply is to make of an object, before defaults and validation. */
export interface Applied {
  readonly object: KubeObject;
  /** What the applier owns from now on. */
  readonly fields: FieldSet;
}

/**
 * Lays an applied configuration over the live object, and takes away what this manager applied earlier, does not apply
 * now, and nobody else owns.
 *
 * @param live undefined where there is none yet
 * @throws StatusError BadRequest where the configuration does not fit the schema's lists
 */
export function applyConfiguration(
  schema: Schema,
  live: KubeObject | undefined,
  config: KubeObject,
  writer: Writer,
): Applied {
  const fields = ownable(fieldsOf(schema, unmanaged(config)));
  if (live === undefined) return { object: copyJson(config), fields };
  const bare = unmanaged(live);
  const merged = mergeFields(schema, bare, unmanaged(config));
  const managers = parseManagers(live.metadata.managedFields);
  const last = managers.get(managerId(writer))?.fields ?? new FieldSet();
  managers.set(managerId(writer), { ...writer, time: "", fields });
  const object = copyJson(prune(schema, merged, last, managers));
  if (!isKubeObject(object)) throw badRequest("the applied configuration is not an object");
  object.metadata.managedFields = live.metadata.managedFields ?? [];
  return { object, fields };
}

/** Removes what `last` has, puts back what somebody owns, and puts back what `last` did not have. */
function prune(schema: Schema, merged: JsonValue, last: FieldSet, managers: Managers): JsonValue {
  if (last.isEmpty) return merged;
  const named = (set: FieldSet) => withNamedFields(set, schema);
  const all = named(fieldsOf(schema, merged));
  const fieldsLeft = (value: JsonValue | undefined) =>
    value === undefined ? new FieldSet() : named(fieldsOf(schema, value));
  const without = (set: FieldSet) => removeFields(schema, merged, set) ?? {};
  const owned = [...managers.values()].reduce((union, manager) => union.union(manager.fields), new FieldSet());
  const removed = without(named(last));
  const ownedBack = without(all.difference(fieldsLeft(removed).union(named(owned))));
  return without(all.difference(fieldsLeft(ownedBack)).intersection(named(last)));
}

/** Fields of the new object that differ from the live one and that other managers own. */
export function findConflicts(schema: Schema, live: KubeObject, applied: KubeObject, writer: Writer): Conflict[] {
  const { added, modified } = compareOwnable(schema, live, applied);
  const changed = added.union(modified);
  const conflicts: Conflict[] = [];
  for (const [id, manager] of parseManagers(live.metadata.managedFields)) {
    if (id === managerId(writer)) continue;
    const { name, operation, apiVersion, subresource, time } = manager;
    for (const path of manager.fields.intersection(changed).paths()) {
      conflicts.push({ manager: name, operation, apiVersion, subresource, time, path });
    }
  }
  return conflicts;
}

/** The `managedFields` after an apply. The time changes only where object or ownership did. */
export function ownedAfterApply(
  schema: Schema,
  live: KubeObject | undefined,
  object: KubeObject,
  fields: FieldSet,
  writer: Writer,
  now: number,
): JsonObject[] {
  const id = managerId(writer);
  if (live === undefined) return formatManagers(new Map([[id, { ...writer, time: formatTime(now), fields }]]));
  const managers = parseManagers(live.metadata.managedFields);
  const before = managers.get(id);
  const { added, modified, removed } = compareOwnable(schema, live, object);
  const changed = added.union(modified);
  disown(managers, changed.union(removed), id);
  const isSame = changed.isEmpty && removed.isEmpty && before?.fields.equals(fields) === true;
  managers.set(id, { ...writer, time: isSame ? (before?.time ?? "") : formatTime(now), fields });
  return formatManagers(managers);
}
