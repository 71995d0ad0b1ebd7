import * as client from "@kubernetes/client-node";
import { typeFacts } from "./facts.ts";
import { opaqueSchema, type Schema } from "./schema.ts";

interface ModelClass {
  getAttributeTypeMap(): readonly { readonly baseName: string; readonly type: string; readonly format: string }[];
}

type Writable<T> = { -readonly [K in keyof T]: T[K] };

const known = new Map<string, Schema>();

/**
 * The schema of a built-in type, by the name its model has in the client library (`V1Pod`). Types are made once and
 * refer to one another, so the graph may have cycles.
 */
export function modelSchema(name: string): Schema {
  const made = known.get(name);
  if (made !== undefined) return made;
  const model = (client as unknown as Record<string, ModelClass | undefined>)[name];
  if (model === undefined) throw new Error(`the client library has no model ${name}`);
  const properties = new Map<string, Schema>();
  const { required, mapType, fields } = typeFacts(name);
  const schema: Writable<Schema> = { name, type: "object", properties };
  if (required !== undefined) schema.required = required;
  if (mapType !== undefined) schema.mapType = mapType;
  known.set(name, schema);
  for (const { baseName, type, format } of model.getAttributeTypeMap()) {
    properties.set(baseName, withFacts(parseType(type, format), fields[baseName]));
  }
  return schema;
}

/** A named type stays the one shared object unless the field itself has something to add. */
function withFacts(schema: Schema, facts: Partial<Schema> | undefined): Schema {
  if (facts === undefined || Object.keys(facts).length === 0) return schema;
  if (facts.quantity !== true) return { ...schema, ...facts };
  const quantity: Schema = { type: "string", quantity: true };
  return schema.additionalProperties === undefined ? quantity : { type: "object", additionalProperties: quantity };
}

function parseType(type: string, format: string): Schema {
  const list = /^Array<(.*)>$/.exec(type);
  if (list?.[1] !== undefined) return { type: "array", items: parseType(list[1], format) };
  const map = /^\{ \[key: string\]: (.*); \}$/.exec(type);
  if (map?.[1] !== undefined) return { type: "object", additionalProperties: parseType(map[1], format) };
  switch (type) {
    case "string":
      return format === "" ? { type: "string" } : { type: "string", format };
    case "number":
      return format.startsWith("int") ? { type: "integer", format } : { type: "number" };
    case "boolean":
      return { type: "boolean" };
    case "Date":
    case "V1MicroTime":
      return { type: "string", format: "date-time" };
    case "IntOrString":
      return { intOrString: true };
    case "any":
    case "object":
      return opaqueSchema;
    default:
      return modelSchema(type);
  }
}
