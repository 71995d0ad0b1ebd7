import { isObject, type JsonObject, type JsonValue, setOwn } from "../json.ts";
import { modelSchema } from "./models.ts";
import { canonicalQuantity } from "./quantity.ts";
import type { Schema } from "./schema.ts";

/** What decoding found besides the value. */
export interface Findings {
  /** Paths of fields that the schema does not know; they were dropped. */
  readonly unknown: string[];
  /** Values of a wrong type, where the kind is strict about them (built-in kinds). */
  readonly mistyped: string[];
}

/**
 * Brings a value into the shape of its schema: drops fields that it does not know and nulls that it does not allow,
 * writes quantities in their canonical form.
 *
 * @param strict built-in kinds: a value of another type can't be decoded at all. Custom resources leave it to validation.
 */
export function decodeValue(
  schema: Schema,
  value: JsonValue,
  path: string,
  strict: boolean,
  findings: Findings,
): JsonValue {
  if (schema.quantity === true) return decodeQuantity(value, path, findings);
  if (isObject(value)) {
    if (strict && schema.type !== undefined && schema.type !== "object") return mistyped(schema, value, path, findings);
    return decodeMap(schema, value, path, strict, findings);
  }
  if (Array.isArray(value)) {
    const { items } = schema;
    if (strict && schema.type !== undefined && schema.type !== "array") return mistyped(schema, value, path, findings);
    if (items === undefined) return value;
    return value.map((item, index) => decodeValue(items, item, `${path}[${index}]`, strict, findings));
  }
  if (strict && value !== null && !fitsScalar(schema, value)) return mistyped(schema, value, path, findings);
  return value;
}

function decodeMap(schema: Schema, value: JsonObject, path: string, strict: boolean, findings: Findings): JsonObject {
  const decoded: JsonObject = {};
  for (const [key, field] of Object.entries(value)) {
    if (field === undefined) continue;
    const below = path === "" ? key : `${path}.${key}`;
    const known = schema.properties?.get(key) ?? embeddedField(schema, key) ?? schema.additionalProperties;
    if (known === undefined) {
      if (schema.preserveUnknownFields === true) setOwn(decoded, key, field);
      else findings.unknown.push(below);
      continue;
    }
    if (field === null && known.nullable !== true && known.preserveUnknownFields !== true) continue;
    setOwn(decoded, key, decodeValue(known, field, below, strict, findings));
  }
  return decoded;
}

/** An embedded object has type and metadata without its schema saying so. */
function embeddedField(schema: Schema, key: string): Schema | undefined {
  if (schema.embeddedResource !== true) return undefined;
  if (key === "metadata") return modelSchema("V1ObjectMeta");
  return key === "apiVersion" || key === "kind" ? { type: "string" } : undefined;
}

function decodeQuantity(value: JsonValue, path: string, findings: Findings): JsonValue {
  if (value === null) return value;
  const canonical = typeof value === "string" || typeof value === "number" ? canonicalQuantity(value) : undefined;
  if (canonical !== undefined) return canonical;
  findings.mistyped.push(
    `${path}: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'`,
  );
  return value;
}

function fitsScalar(schema: Schema, value: string | number | boolean): boolean {
  if (schema.intOrString === true) return typeof value === "string" || Number.isInteger(value);
  switch (schema.type) {
    case undefined:
      return true;
    case "string":
      if (typeof value !== "string") return false;
      if (schema.format === "date-time") return !Number.isNaN(Date.parse(value));
      if (schema.format === "byte") return /^[A-Za-z0-9+/]*={0,2}$/.test(value.replaceAll(/\s/g, ""));
      return true;
    case "integer":
      return Number.isInteger(value);
    case "number":
      return typeof value === "number";
    case "boolean":
      return typeof value === "boolean";
    default:
      return false;
  }
}

function mistyped(schema: Schema, value: JsonValue, path: string, findings: Findings): JsonValue {
  const found = Array.isArray(value) ? "array" : typeof value;
  const wanted = schema.format === undefined ? schema.type : `${schema.type} (${schema.format})`;
  findings.mistyped.push(`json: cannot unmarshal ${found} into Go struct field ${path} of type ${wanted}`);
  return value;
}
