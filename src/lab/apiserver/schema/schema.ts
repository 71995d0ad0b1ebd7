import type { JsonValue } from "../json.ts";

/**
 * A structural schema: what built-in kinds (from the client's models) and custom resources (from their CRD) have in
 * common. May be cyclic: built-in types refer to one another.
 */
export interface Schema {
  /** The definition's name where it is a named type, for references in OpenAPI. */
  readonly name?: string;
  readonly description?: string;
  readonly type?: "object" | "array" | "string" | "integer" | "number" | "boolean";
  readonly format?: string;
  readonly properties?: ReadonlyMap<string, Schema>;
  readonly additionalProperties?: Schema;
  readonly items?: Schema;
  readonly required?: readonly string[];
  readonly enum?: readonly JsonValue[];
  readonly default?: JsonValue;
  readonly nullable?: boolean;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: boolean;
  readonly exclusiveMaximum?: boolean;
  readonly multipleOf?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly pattern?: string;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly uniqueItems?: boolean;
  readonly minProperties?: number;
  readonly maxProperties?: number;
  readonly allOf?: readonly Schema[];
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
  readonly not?: Schema;
  /** `x-kubernetes-int-or-string`; quantities are that too, and are stored in canonical form. */
  readonly intOrString?: boolean;
  /** A `resource.Quantity` of a built-in kind. */
  readonly quantity?: boolean;
  readonly preserveUnknownFields?: boolean;
  readonly embeddedResource?: boolean;
  /** How server-side apply and patches treat a list. Atomic unless said otherwise. */
  readonly listType?: "atomic" | "set" | "map";
  readonly listMapKeys?: readonly string[];
  /** How server-side apply treats an object. Granular unless said otherwise. */
  readonly mapType?: "granular" | "atomic";
  /** Strategic merge patch: the key that tells items apart, where the list is merged. */
  readonly patchMergeKey?: string;
  /** Strategic merge patch: `merge`, `replace`, `retainKeys`, as in the API's struct tags. */
  readonly patchStrategies?: readonly string[];
}

/** Anything goes: what `x-kubernetes-preserve-unknown-fields` at the top means. */
export const anySchema: Schema = { preserveUnknownFields: true };

/** A built-in field that may hold anything (`RawExtension`): owned as a whole. */
export const opaqueSchema: Schema = { preserveUnknownFields: true, mapType: "atomic" };
