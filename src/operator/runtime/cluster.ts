import type { KubernetesObject, Manifest, ResourceType } from "./objects.ts";

/**
 * What becomes of the objects that have an owner reference to one that is deleted. `Orphan`: they stay and lose that reference, and the
 * deletion fails with a conflict where the object is no longer just as it was read.
 */
export type Dependents = "Background" | "Orphan";

/** What controllers read of a cluster. Refusals are {@link ApiError}s. */
export interface ClusterReads {
  /** Undefined where there is no such object. */
  get<T extends KubernetesObject>(
    type: ResourceType<T>,
    namespace: string | undefined,
    name: string,
  ): Promise<T | undefined>;

  /** @param namespace undefined: all of them */
  list<T extends KubernetesObject>(
    type: ResourceType<T>,
    namespace: string | undefined,
    labelSelector?: string,
  ): Promise<T[]>;
}

/** Everything that controllers do to a cluster. */
export interface Cluster extends ClusterReads {
  /** Fails with a conflict where the object is there already. */
  create(type: ResourceType, object: Manifest): Promise<void>;

  /** Server-side apply: makes the object, or changes the fields that `object` names. Takes them over from other managers. */
  apply(type: ResourceType, object: Manifest): Promise<void>;

  /**
   * Server-side apply of the status subresource; fields applied before and not named any more go away. Fails with a conflict where
   * the object names a `metadata.uid` or `metadata.resourceVersion` that is no longer so.
   */
  applyStatus(type: ResourceType, object: Manifest): Promise<void>;

  /** Replaces the whole object; fails with a conflict where it is no longer the one of `metadata.resourceVersion`. */
  replace(type: ResourceType, object: Manifest): Promise<void>;

  /**
   * Asks for deletion of exactly the object that was read: a later one of the same name is left alone. Nothing happens
   * where it is gone already.
   */
  delete(type: ResourceType, object: KubernetesObject, dependents?: Dependents): Promise<void>;
}
