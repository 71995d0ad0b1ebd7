import type { KubeObject } from "../object.ts";
import type { ResourceDefinition } from "../registry/definition.ts";
import { parseFieldSelector } from "./field-selector.ts";
import { parseLabelSelector } from "./label-selector.ts";

/** Which objects of a collection a request is about: namespace, name, `labelSelector` and `fieldSelector`. */
export function selectionOf(
  definition: ResourceDefinition,
  version: string,
  namespace: string,
  name: string,
  query: URLSearchParams,
): (stored: KubeObject) => boolean {
  const labels = parseLabelSelector(query.get("labelSelector") ?? "");
  const fields = parseFieldSelector(query.get("fieldSelector") ?? "", definition);
  return (stored) =>
    (namespace === "" || stored.metadata.namespace === namespace) &&
    (name === "" || stored.metadata.name === name) &&
    labels(stored.metadata.labels ?? {}) &&
    fields(definition.toVersion(stored, version));
}
