import type { JsonObject, JsonValue } from "../json.ts";
import type { KubeObject } from "../object.ts";
import { apiVersionOf, type ResourceDefinition } from "../registry/definition.ts";
import { StatusError } from "../status-error.ts";
import { type IncludeObject, tableOf } from "../tables/table.ts";

/** How a client wants to see objects: as they are, as a Table, or only their metadata. */
export type Representation =
  | { readonly as: "Object" }
  | { readonly as: "Table"; readonly version: string; readonly includeObject: IncludeObject }
  | { readonly as: "PartialObjectMetadata"; readonly version: string };

/**
 * From the `Accept` header, in the client's order of preference.
 *
 * @throws StatusError NotAcceptable
 */
export function negotiate(accept: string | undefined, includeObject: string | null): Representation {
  const ranges = (accept ?? "*/*").split(",").map((range) => range.split(";").map((part) => part.trim()));
  for (const [type = "", ...parameters] of ranges) {
    if (type !== "application/json" && type !== "*/*" && type !== "application/*" && type !== "") continue;
    const values = new Map(parameters.map((parameter) => parameter.split("=") as [string, string]));
    const as = values.get("as");
    const version = values.get("v") ?? "v1";
    if (as === undefined) return { as: "Object" };
    if (values.get("g") !== "meta.k8s.io" || (version !== "v1" && version !== "v1beta1")) continue;
    if (as === "Table") return { as, version, includeObject: includeOf(includeObject) };
    if (as.startsWith("PartialObjectMetadata")) return { as: "PartialObjectMetadata", version };
  }
  throw new StatusError(
    406,
    "NotAcceptable",
    "only the following media types are accepted: application/json, application/json;as=Table;v=v1;g=meta.k8s.io",
  );
}

function includeOf(text: string | null): IncludeObject {
  return text === "Object" || text === "None" ? text : "Metadata";
}

/** Objects of one version in the representation that the client asked for. */
export class Presenter {
  readonly #definition: ResourceDefinition;
  readonly #version: string;
  readonly #representation: Representation;

  constructor(definition: ResourceDefinition, version: string, representation: Representation) {
    this.#definition = definition;
    this.#version = version;
    this.#representation = representation;
  }

  one(stored: KubeObject, now: number, withColumns = true): JsonValue {
    const object = this.#definition.toVersion(stored, this.#version);
    switch (this.#representation.as) {
      case "Object":
        return object;
      case "PartialObjectMetadata":
        return metadataOnly(object, this.#representation.version);
      case "Table":
        return tableOf(this.#definition, this.#version, [object], this.#representation, now, {
          metadata: { resourceVersion: object.metadata.resourceVersion },
          withColumns,
        });
    }
  }

  list(stored: readonly KubeObject[], metadata: JsonObject, now: number): JsonValue {
    const { group, listKind } = this.#definition;
    const objects = stored.map((object) => this.#definition.toVersion(object, this.#version));
    const isCustom = this.#definition.custom;
    switch (this.#representation.as) {
      case "Object":
        return {
          kind: listKind,
          apiVersion: apiVersionOf(group, this.#version),
          metadata,
          items: isCustom ? objects : objects.map(untyped),
        };
      case "PartialObjectMetadata": {
        const { version } = this.#representation;
        const items = objects.map((object) => metadataOnly(object, version));
        return { kind: "PartialObjectMetadataList", apiVersion: `meta.k8s.io/${version}`, metadata, items };
      }
      case "Table":
        return tableOf(this.#definition, this.#version, objects, this.#representation, now, {
          metadata,
          withColumns: true,
        });
    }
  }
}

/** Items of a list of a built-in kind do not repeat what the list says. */
function untyped({ apiVersion: _, kind: __, ...rest }: KubeObject): JsonObject {
  return rest;
}

function metadataOnly(object: KubeObject, version: string): KubeObject {
  return { kind: "PartialObjectMetadata", apiVersion: `meta.k8s.io/${version}`, metadata: object.metadata };
}
