import type { KubeObject } from "../object.ts";
import { type ResourceDefinition, subjectOf } from "../registry/definition.ts";
import { notFound } from "../status-error.ts";
import type { Store } from "../store/store.ts";

/**
 * The stored form of one object.
 *
 * @throws StatusError NotFound
 */
export function readObject(store: Store, definition: ResourceDefinition, namespace: string, name: string): KubeObject {
  const found = store.get(definition.storageKey, namespace, name);
  if (found === undefined) throw notFound(subjectOf(definition, name));
  return found;
}
