import { equalJson, type JsonObject, type JsonValue, own } from "../json.ts";
import type { Strategy } from "../registry/definition.ts";
import type { Cause } from "../status-error.ts";

/** What one built-in kind adds to the strategy that all have. */
export type KindStrategy = Partial<
  Pick<Strategy, "applyDefaults" | "prepareCreate" | "prepareUpdate" | "validateCreate" | "validateUpdate">
>;

/** Sets what is absent. */
export function setDefaults(object: JsonObject, defaults: JsonObject): void {
  for (const [key, value] of Object.entries(defaults)) if ((own(object, key) ?? null) === null) object[key] = value;
}

export function forbiddenField(field: string, why: string): Cause {
  return { reason: "FieldValueForbidden", message: `Forbidden: ${why}`, field };
}

export function unsupported(field: string, value: JsonValue | undefined, allowed: readonly string[]): Cause {
  const values = allowed.map((item) => `"${item}"`).join(", ");
  const message = `Unsupported value: ${JSON.stringify(value ?? "")}: supported values: ${values}`;
  return { reason: "FieldValueNotSupported", message, field };
}

/** One cause where `path` differs between the two. */
export function immutable(
  field: string,
  value: JsonValue | undefined,
  old: JsonValue | undefined,
  why = "field is immutable",
): Cause[] {
  if (equalJson(value ?? null, old ?? null)) return [];
  return [{ reason: "FieldValueInvalid", message: `Invalid value: ${JSON.stringify(value ?? null)}: ${why}`, field }];
}
