import type { JsonObject } from "../json.ts";
import type { KubeObject } from "../object.ts";
import type { ResourceDefinition } from "../registry/definition.ts";

export type IncludeObject = "None" | "Metadata" | "Object";

/** `Table` of meta.k8s.io: what `kubectl get` prints. In a watch only the first one has column definitions. */
export function tableOf(
  definition: ResourceDefinition,
  version: string,
  objects: readonly KubeObject[],
  asked: { readonly version: string; readonly includeObject: IncludeObject },
  now: number,
  extra: { readonly metadata: JsonObject; readonly withColumns: boolean },
): JsonObject {
  const columns = definition.versions.find((candidate) => candidate.version === version)?.columns ?? [];
  const columnDefinitions = columns.map(({ name, type, format, description, priority }) => ({
    name,
    type,
    format: format ?? "",
    description: description ?? "",
    priority,
  }));
  return {
    kind: "Table",
    apiVersion: `meta.k8s.io/${asked.version}`,
    metadata: extra.metadata,
    columnDefinitions: extra.withColumns ? columnDefinitions : null,
    rows: objects.map((object) => ({
      cells: columns.map((column) => column.value(object, now)),
      ...(asked.includeObject === "None" ? {} : { object: rowObject(object, asked) }),
    })),
  };
}

function rowObject(
  object: KubeObject,
  asked: { readonly version: string; readonly includeObject: IncludeObject },
): KubeObject {
  if (asked.includeObject === "Object") return object;
  return { kind: "PartialObjectMetadata", apiVersion: `meta.k8s.io/${asked.version}`, metadata: object.metadata };
}
