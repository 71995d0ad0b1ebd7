import { copyJson, type JsonObject } from "../json.ts";
import { formatTime, type KubeObject } from "../object.ts";
import type { Schema } from "../schema/schema.ts";
import { type Comparison, compareFields } from "./compare.ts";
import { FieldSet } from "./field-set.ts";
import {
  capManagers,
  disown,
  formatManagers,
  type Manager,
  type Managers,
  managerId,
  parseManagers,
} from "./managers.ts";

/** Fields that only the server sets: nobody owns them. */
const SERVER_FIELDS = FieldSet.fromJson({
  "f:apiVersion": {},
  "f:kind": {},
  "f:metadata": {
    ".": {},
    "f:name": {},
    "f:namespace": {},
    "f:creationTimestamp": {},
    "f:selfLink": {},
    "f:uid": {},
    "f:generation": {},
    "f:managedFields": {},
    "f:resourceVersion": {},
    "f:deletionTimestamp": {},
    "f:deletionGracePeriodSeconds": {},
  },
});

/** Who writes, and how. */
export type Writer = Omit<Manager, "fields" | "time">;

/** Without what nobody owns. */
export function ownable(fields: FieldSet): FieldSet {
  return fields.difference(SERVER_FIELDS);
}

export function compareOwnable(schema: Schema, before: KubeObject | undefined, after: KubeObject): Comparison {
  const { added, modified, removed } = compareFields(
    schema,
    before === undefined ? {} : unmanaged(before),
    unmanaged(after),
  );
  return { added: ownable(added), modified: ownable(modified), removed: ownable(removed) };
}

/** An object without its managedFields, and without metadata that is empty. */
export function unmanaged(object: KubeObject): JsonObject {
  const { managedFields: _, ...metadata } = object.metadata;
  return { ...object, metadata };
}

/**
 * The `managedFields` after a write that is not server-side apply: the writer owns what it changed, and nobody else
 * does any more.
 *
 * @param before what was live, in the same version; undefined where the object is new
 * @param claimed the managedFields that the client sent: it may only clear them
 */
export function ownedAfterUpdate(
  schema: Schema,
  before: KubeObject | undefined,
  after: KubeObject,
  writer: Writer,
  now: number,
): JsonObject[] {
  const managers = managersOf(before, after);
  const { added, modified, removed } = compareOwnable(schema, before, after);
  const changed = added.union(modified);
  disown(managers, changed.union(removed), "");
  if (!changed.isEmpty) {
    const id = managerId(writer);
    const known = managers.get(id)?.fields ?? new FieldSet();
    managers.set(id, { ...writer, time: formatTime(now), fields: known.union(changed) });
  }
  capManagers(managers);
  return formatManagers(managers);
}

/**
 * The owners before the write. A client may set `managedFields` to an empty list to clear them; whatever else it sends
 * there that does not parse is ignored.
 */
export function managersOf(before: KubeObject | undefined, after: KubeObject): Managers {
  const sent = after.metadata.managedFields;
  if (before === undefined) return new Map();
  if (sent !== undefined && isCleared(sent)) return new Map();
  try {
    return parseManagers(copyJson(sent ?? before.metadata.managedFields));
  } catch {
    return parseManagers(before.metadata.managedFields);
  }
}

function isCleared(entries: readonly JsonObject[]): boolean {
  const [only] = entries;
  return entries.length === 0 || (entries.length === 1 && only !== undefined && Object.keys(only).length === 0);
}
