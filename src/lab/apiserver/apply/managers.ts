import { isObject, type JsonObject, stringAt } from "../json.ts";

import { FieldSet } from "./field-set.ts";

/** One entry of `managedFields`: who owns which fields, and by which kind of write. */
export interface Manager {
  readonly name: string;
  readonly operation: "Apply" | "Update";
  readonly apiVersion: string;
  readonly subresource: string;
  readonly time: string;
  readonly fields: FieldSet;
}

/** An applier is the same whatever version it applies in; every other write is told apart by version. */
export function managerId({ name, operation, apiVersion, subresource }: Omit<Manager, "fields" | "time">): string {
  return JSON.stringify([name, operation, operation === "Apply" ? "" : apiVersion, subresource]);
}

export type Managers = Map<string, Manager>;

/** More updaters than this are taken together, oldest first, so that an object can't grow without end. */
const MAX_UPDATERS = 10;
const ANCIENT = "ancient-changes";

/** @throws StatusError BadRequest where an entry is malformed */
export function parseManagers(entries: readonly JsonObject[] | undefined): Managers {
  const managers: Managers = new Map();
  for (const entry of entries ?? []) {
    const manager: Manager = {
      name: stringAt(entry, "manager"),
      operation: stringAt(entry, "operation") === "Apply" ? "Apply" : "Update",
      apiVersion: stringAt(entry, "apiVersion"),
      subresource: stringAt(entry, "subresource"),
      time: stringAt(entry, "time"),
      fields: FieldSet.fromJson(isObject(entry.fieldsV1) ? entry.fieldsV1 : {}),
    };
    managers.set(managerId(manager), manager);
  }
  return managers;
}

/** Appliers first, then by time and name, as the real server orders them. */
export function formatManagers(managers: Managers): JsonObject[] {
  return [...managers.values()]
    .filter(({ fields }) => !fields.isEmpty)
    .sort((a, b) => order(a) - order(b) || compareText(a.time, b.time) || compareText(a.name, b.name))
    .map(({ name, operation, apiVersion, subresource, time, fields }) => ({
      manager: name,
      operation,
      apiVersion,
      ...(time === "" ? {} : { time }),
      fieldsType: "FieldsV1",
      fieldsV1: fields.toJson(),
      ...(subresource === "" ? {} : { subresource }),
    }));
}

const order = (manager: Manager) => (manager.operation === "Apply" ? 0 : 1);
const compareText = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);

/** Puts the oldest updaters together where there are too many. */
export function capManagers(managers: Managers): void {
  const updaters = [...managers]
    .filter(([, { operation, subresource }]) => operation === "Update" && subresource === "")
    .sort(([, a], [, b]) => compareText(a.time, b.time));
  for (const [id, manager] of updaters.slice(0, Math.max(0, updaters.length - MAX_UPDATERS))) {
    managers.delete(id);
    const ancient = { ...manager, name: ANCIENT };
    const known = managers.get(managerId(ancient));
    managers.set(managerId(ancient), {
      ...ancient,
      fields: known === undefined ? manager.fields : known.fields.union(manager.fields),
    });
  }
}

/** Takes fields away from everybody but `except`. */
export function disown(managers: Managers, fields: FieldSet, except: string): void {
  if (fields.isEmpty) return;
  for (const [id, manager] of managers) {
    if (id !== except) managers.set(id, { ...manager, fields: manager.fields.difference(fields) });
  }
}
