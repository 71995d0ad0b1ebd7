import type { JsonObject, JsonValue } from "../json.ts";
import { apiVersionOf, type ResourceDefinition } from "../registry/definition.ts";
import type { Schema } from "../schema/schema.ts";

/** Which version of OpenAPI a schema is written for: they differ in how references look. */
export type Dialect = "v2" | "v3";

const REFERENCE = { v2: "#/definitions/", v3: "#/components/schemas/" } as const;

/** Writes schemas as OpenAPI, with a definition for each named type that they refer to. */
export class SchemaWriter {
  readonly definitions: JsonObject = {};
  readonly #dialect: Dialect;

  constructor(dialect: Dialect) {
    this.#dialect = dialect;
  }

  /** Adds the kind of a resource, marked with its group, version and kind; returns a reference to it. */
  addKind(definition: ResourceDefinition, version: string, schema: Schema): JsonObject {
    const reference = this.write(schema);
    const written = this.definitions[schema.name ?? ""];
    if (typeof written === "object" && written !== null && !Array.isArray(written)) {
      const { group, kind } = definition;
      written["x-kubernetes-group-version-kind"] = [{ group, kind, version }];
    }
    return reference;
  }

  /** A reference where the schema is a named type, else the schema itself. */
  write(schema: Schema): JsonObject {
    const { name } = schema;
    if (name === undefined) return this.#body(schema);
    if (!(name in this.definitions)) {
      // Set before it is written: a type may contain itself.
      this.definitions[name] = {};
      this.definitions[name] = this.#body(schema);
    }
    return { $ref: `${REFERENCE[this.#dialect]}${name}` };
  }

  #body(schema: Schema): JsonObject {
    const body: JsonObject = {};
    const set = (key: string, value: JsonValue | undefined) => {
      if (value !== undefined) body[key] = value;
    };
    set("description", schema.description);
    set("type", schema.intOrString === true ? undefined : schema.type);
    set("format", schema.intOrString === true && this.#dialect === "v2" ? "int-or-string" : schema.format);
    if (schema.intOrString === true && this.#dialect === "v2") body.type = "string";
    set("required", schema.required === undefined ? undefined : [...schema.required]);
    set("enum", schema.enum === undefined ? undefined : [...schema.enum]);
    if (schema.properties !== undefined) {
      body.properties = Object.fromEntries([...schema.properties].map(([key, field]) => [key, this.write(field)]));
    }
    set("items", schema.items && this.write(schema.items));
    set("additionalProperties", schema.additionalProperties && this.write(schema.additionalProperties));
    this.#extensions(schema, set);
    return body;
  }

  #extensions(schema: Schema, set: (key: string, value: JsonValue | undefined) => void): void {
    set("x-kubernetes-int-or-string", schema.intOrString);
    set("x-kubernetes-preserve-unknown-fields", schema.preserveUnknownFields);
    set("x-kubernetes-embedded-resource", schema.embeddedResource);
    set("x-kubernetes-list-type", schema.listType);
    set("x-kubernetes-list-map-keys", schema.listMapKeys === undefined ? undefined : [...schema.listMapKeys]);
    set("x-kubernetes-map-type", schema.mapType);
    set("x-kubernetes-patch-merge-key", schema.patchMergeKey);
    set("x-kubernetes-patch-strategy", schema.patchStrategies?.join(","));
  }
}

/** `/api/v1/namespaces/{namespace}/pods`. */
export function collectionPath(definition: ResourceDefinition, version: string): string {
  const root = definition.group === "" ? "/api" : "/apis";
  const scope = definition.namespaced ? "/namespaces/{namespace}" : "";
  return `${root}/${apiVersionOf(definition.group, version)}${scope}/${definition.resource}`;
}

/** `listCoreV1Pod` and the like: unique within the API. */
export function operationId(verb: string, definition: ResourceDefinition, version: string): string {
  const group = definition.group === "" ? "core" : definition.group;
  const words = [...group.split(/[.-]/), version, definition.kind];
  return verb + words.map((word) => word.charAt(0).toUpperCase() + word.slice(1)).join("");
}
