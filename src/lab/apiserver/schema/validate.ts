import { equalJson, isObject, type JsonObject, type JsonValue, own } from "../json.ts";
import type { Cause } from "../status-error.ts";
import type { Schema } from "./schema.ts";

/** What a value violates of its schema, with paths as in `spec.disks[0].name`. */
export function validateValue(schema: Schema, value: JsonValue, path: string): Cause[] {
  const wrongType = typeError(schema, value, path);
  if (wrongType !== undefined) return [wrongType];
  if (value === null) return [];
  return [
    ...(schema.enum === undefined || schema.enum.some((allowed) => equalJson(allowed, value))
      ? []
      : [notSupported(value, schema.enum, path)]),
    ...validateScalar(schema, value, path),
    ...(Array.isArray(value) ? validateList(schema, value, path) : []),
    ...(isObject(value) ? validateMap(schema, value, path) : []),
    ...validateCombinations(schema, value, path),
  ];
}

function invalid(value: JsonValue, rule: string, path: string, reason = "FieldValueInvalid"): Cause {
  return { reason, message: `Invalid value: ${JSON.stringify(value)}: ${path} in body ${rule}`, field: path };
}

function notSupported(value: JsonValue, allowed: readonly JsonValue[], path: string): Cause {
  const values = allowed.map((item) => JSON.stringify(item)).join(", ");
  const message = `Unsupported value: ${JSON.stringify(value)}: supported values: ${values}`;
  return { reason: "FieldValueNotSupported", message, field: path };
}

function typeError(schema: Schema, value: JsonValue, path: string): Cause | undefined {
  const found = typeName(value);
  if (value === null && schema.nullable === true) return undefined;
  if (schema.intOrString === true) {
    if (found === "integer" || found === "string") return undefined;
    return mistyped("integer,string", found, path);
  }
  if (schema.type === undefined || schema.type === found || (schema.type === "number" && found === "integer")) {
    return undefined;
  }
  return mistyped(schema.type, found, path);
}

function mistyped(wanted: string, found: string, path: string): Cause {
  const message = `Invalid value: "${found}": ${path} in body must be of type ${wanted}: "${found}"`;
  return { reason: "FieldValueTypeInvalid", message, field: path };
}

function typeName(value: JsonValue): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  if (typeof value === "number") return Number.isInteger(value) ? "integer" : "number";
  return typeof value;
}

function validateScalar(schema: Schema, value: JsonValue, path: string): Cause[] {
  const causes: Cause[] = [];
  const refuse = (rule: string, reason?: string) => causes.push(invalid(value, rule, path, reason));
  if (typeof value === "number") {
    const { minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf } = schema;
    if (minimum !== undefined && (exclusiveMinimum === true ? value <= minimum : value < minimum)) {
      refuse(`should be greater than ${exclusiveMinimum === true ? "" : "or equal to "}${minimum}`);
    }
    if (maximum !== undefined && (exclusiveMaximum === true ? value >= maximum : value > maximum)) {
      refuse(`should be less than ${exclusiveMaximum === true ? "" : "or equal to "}${maximum}`);
    }
    if (multipleOf !== undefined && value % multipleOf !== 0) refuse(`should be a multiple of ${multipleOf}`);
  }
  if (typeof value === "string") {
    const length = [...value].length;
    const { minLength, maxLength, pattern } = schema;
    if (minLength !== undefined && length < minLength) refuse(`should be at least ${minLength} chars long`);
    if (maxLength !== undefined && length > maxLength) {
      const message = `Too long: may not be more than ${maxLength} bytes`;
      causes.push({ reason: "FieldValueTooLong", message, field: path });
    }
    if (pattern !== undefined && !matches(pattern, value)) refuse(`should match '${pattern}'`);
    if (schema.format === "date-time" && Number.isNaN(Date.parse(value))) {
      refuse(`must be of type date-time: ${JSON.stringify(value)}`);
    }
  }
  return causes;
}

const patterns = new Map<string, RegExp | undefined>();

/** Patterns are of Go's RE2; one that JavaScript does not understand is left to the real server. */
function matches(pattern: string, value: string): boolean {
  if (!patterns.has(pattern)) patterns.set(pattern, compile(pattern));
  return patterns.get(pattern)?.test(value) ?? true;
}

function compile(pattern: string): RegExp | undefined {
  try {
    return new RegExp(pattern, "u");
  } catch {
    return undefined;
  }
}

function validateList(schema: Schema, value: readonly JsonValue[], path: string): Cause[] {
  const causes: Cause[] = [];
  const { minItems, maxItems, items } = schema;
  if (minItems !== undefined && value.length < minItems) {
    causes.push(invalid(value as JsonValue, `should have at least ${minItems} items`, path));
  }
  if (maxItems !== undefined && value.length > maxItems) {
    const message = `Too many: ${value.length}: must have at most ${maxItems} items`;
    causes.push({ reason: "FieldValueTooMany", message, field: path });
  }
  causes.push(...duplicates(schema, value, path));
  if (items !== undefined) {
    for (const [index, item] of value.entries()) causes.push(...validateValue(items, item, `${path}[${index}]`));
  }
  return causes;
}

function duplicates(schema: Schema, value: readonly JsonValue[], path: string): Cause[] {
  if (schema.listType !== "map" && schema.listType !== "set" && schema.uniqueItems !== true) return [];
  const keys = schema.listMapKeys ?? [];
  const identity = (item: JsonValue): JsonValue => {
    if (schema.listType !== "map" || !isObject(item)) return item;
    return Object.fromEntries(keys.map((key) => [key, own(item, key) ?? null]));
  };
  const seen: JsonValue[] = [];
  const causes: Cause[] = [];
  for (const [index, item] of value.entries()) {
    const id = identity(item);
    if (seen.some((other) => equalJson(other, id))) {
      const message = `Duplicate value: ${JSON.stringify(id)}`;
      causes.push({ reason: "FieldValueDuplicate", message, field: `${path}[${index}]` });
    } else seen.push(id);
  }
  return causes;
}

function validateMap(schema: Schema, value: JsonObject, path: string): Cause[] {
  const causes: Cause[] = [];
  const below = (key: string) => (path === "" ? key : `${path}.${key}`);
  for (const key of schema.required ?? []) {
    if (own(value, key) === undefined) {
      causes.push({ reason: "FieldValueRequired", message: "Required value", field: below(key) });
    }
  }
  const count = Object.keys(value).length;
  if (schema.minProperties !== undefined && count < schema.minProperties) {
    causes.push(invalid(value, `should have at least ${schema.minProperties} properties`, path));
  }
  if (schema.maxProperties !== undefined && count > schema.maxProperties) {
    const message = `Too many: ${count}: must have at most ${schema.maxProperties} items`;
    causes.push({ reason: "FieldValueTooMany", message, field: path });
  }
  for (const [key, field] of Object.entries(value)) {
    const known = schema.properties?.get(key) ?? schema.additionalProperties;
    if (known !== undefined && field !== undefined) causes.push(...validateValue(known, field, below(key)));
  }
  return causes;
}

function validateCombinations(schema: Schema, value: JsonValue, path: string): Cause[] {
  const fits = (candidate: Schema) => validateValue(candidate, value, path).length === 0;
  const causes = (schema.allOf ?? []).flatMap((part) => validateValue(part, value, path));
  if (schema.anyOf !== undefined && !schema.anyOf.some(fits)) {
    causes.push(invalid(value, "must validate at least one schema (anyOf)", path));
  }
  if (schema.oneOf !== undefined && schema.oneOf.filter(fits).length !== 1) {
    causes.push(invalid(value, "must validate one and only one schema (oneOf)", path));
  }
  if (schema.not !== undefined && fits(schema.not)) {
    causes.push(invalid(value, "must not validate the schema (not)", path));
  }
  return causes;
}
