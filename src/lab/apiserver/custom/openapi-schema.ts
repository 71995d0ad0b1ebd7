import { arrayAt, isObject, type JsonObject, type JsonValue } from "../json.ts";
import { modelSchema } from "../schema/models.ts";
import { anySchema, type Schema } from "../schema/schema.ts";

type Writable<T> = { -readonly [K in keyof T]: T[K] };

const COPIED = [
  "description",
  "type",
  "format",
  "nullable",
  "minimum",
  "maximum",
  "exclusiveMinimum",
  "exclusiveMaximum",
  "multipleOf",
  "minLength",
  "maxLength",
  "pattern",
  "minItems",
  "maxItems",
  "uniqueItems",
  "minProperties",
  "maxProperties",
] as const;

/** The schema of a custom resource's version: what its CRD says, with the fields that every object has. */
export function customResourceSchema(openApi: JsonValue | undefined, name: string): Schema {
  const schema = isObject(openApi) ? schemaFromOpenApi(openApi) : anySchema;
  const properties = new Map<string, Schema>([
    ...(schema.properties ?? []),
    ["apiVersion", { type: "string" }],
    ["kind", { type: "string" }],
    ["metadata", modelSchema("V1ObjectMeta")],
  ]);
  return { ...schema, name, type: "object", properties };
}

/** `JSONSchemaProps` of apiextensions/v1. CEL rules (`x-kubernetes-validations`) are left to the real server. */
export function schemaFromOpenApi(json: JsonObject): Schema {
  const schema: Writable<Schema> = {};
  for (const key of COPIED) if (json[key] !== undefined && json[key] !== null) (schema as JsonObject)[key] = json[key];
  if (Array.isArray(json.required)) schema.required = json.required.filter((item) => typeof item === "string");
  if (Array.isArray(json.enum)) schema.enum = json.enum;
  if (json.default !== undefined) schema.default = json.default;
  if (isObject(json.properties)) {
    schema.properties = new Map(
      Object.entries(json.properties).map(([key, value]) => [key, schemaFromOpenApi(isObject(value) ? value : {})]),
    );
  }
  if (isObject(json.additionalProperties)) schema.additionalProperties = schemaFromOpenApi(json.additionalProperties);
  else if (json.additionalProperties === true) schema.additionalProperties = anySchema;
  if (isObject(json.items)) schema.items = schemaFromOpenApi(json.items);
  for (const key of ["allOf", "anyOf", "oneOf"] as const) {
    if (Array.isArray(json[key]))
      schema[key] = arrayAt(json, key).map((part) => schemaFromOpenApi(isObject(part) ? part : {}));
  }
  if (isObject(json.not)) schema.not = schemaFromOpenApi(json.not);
  copyExtensions(json, schema);
  return schema;
}

function copyExtensions(json: JsonObject, schema: Writable<Schema>): void {
  if (json["x-kubernetes-int-or-string"] === true) schema.intOrString = true;
  if (json["x-kubernetes-preserve-unknown-fields"] === true) schema.preserveUnknownFields = true;
  if (json["x-kubernetes-embedded-resource"] === true) schema.embeddedResource = true;
  const listType = json["x-kubernetes-list-type"];
  if (listType === "map" || listType === "set" || listType === "atomic") schema.listType = listType;
  const keys = arrayAt(json, "x-kubernetes-list-map-keys").filter((key) => typeof key === "string");
  if (keys.length > 0) schema.listMapKeys = keys;
  const mapType = json["x-kubernetes-map-type"];
  if (mapType === "granular" || mapType === "atomic") schema.mapType = mapType;
}
