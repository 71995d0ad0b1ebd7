import type { ObjectMeta } from "../../api/common.ts";

/** What all objects of the Kubernetes API have in common. */
export interface KubernetesObject {
  apiVersion: string;
  kind: string;
  metadata: ObjectMeta;
}

/** An object to be sent: whatever else its kind holds. */
export interface Manifest extends KubernetesObject {
  [field: string]: unknown;
}

/** Where a kind is served. `T` is what objects of it look like, as far as the operator reads them. */
export interface ResourceType<T extends KubernetesObject = KubernetesObject> {
  readonly apiVersion: string;
  readonly kind: T["kind"];
  readonly plural: string;
  readonly namespaced: boolean;
}

/**
 * What a write that must meet the very object that was read bears of it: where it changed meanwhile, or another has its name, the
 * write fails with a conflict.
 */
export function identityOf({ metadata }: KubernetesObject): ObjectMeta {
  const { name, namespace, uid, resourceVersion } = metadata;
  return {
    name,
    ...(namespace === undefined ? {} : { namespace }),
    ...(uid === undefined ? {} : { uid }),
    ...(resourceVersion === undefined ? {} : { resourceVersion }),
  };
}

/** The request path of a kind, a namespace of it, or one object. */
export function resourcePath(type: ResourceType, namespace: string | undefined, name?: string): string {
  const root = type.apiVersion.includes("/") ? `/apis/${type.apiVersion}` : `/api/${type.apiVersion}`;
  const scope = type.namespaced && namespace !== undefined ? `/namespaces/${encodeURIComponent(namespace)}` : "";
  return `${root}${scope}/${type.plural}${name === undefined ? "" : `/${encodeURIComponent(name)}`}`;
}

/** Whether it is there, and not being deleted. */
export function stands(object: KubernetesObject | undefined): boolean {
  return object !== undefined && object.metadata.deletionTimestamp === undefined;
}
