import type { Cluster, Dependents } from "./cluster.ts";
import type { KubernetesObject, Manifest, ResourceType } from "./objects.ts";

/** A cluster that is only written to while `check` allows it: it throws otherwise, and what it throws reaches the caller. */
export class FencedCluster implements Cluster {
  readonly #inner: Cluster;
  readonly #check: () => void;

  constructor(inner: Cluster, check: () => void) {
    this.#inner = inner;
    this.#check = check;
  }

  get<T extends KubernetesObject>(
    type: ResourceType<T>,
    namespace: string | undefined,
    name: string,
  ): Promise<T | undefined> {
    return this.#inner.get(type, namespace, name);
  }

  list<T extends KubernetesObject>(
    type: ResourceType<T>,
    namespace: string | undefined,
    labelSelector?: string,
  ): Promise<T[]> {
    return this.#inner.list(type, namespace, labelSelector);
  }

  async create(type: ResourceType, object: Manifest): Promise<void> {
    this.#check();
    await this.#inner.create(type, object);
  }

  async apply(type: ResourceType, object: Manifest): Promise<void> {
    this.#check();
    await this.#inner.apply(type, object);
  }

  async applyStatus(type: ResourceType, object: Manifest): Promise<void> {
    this.#check();
    await this.#inner.applyStatus(type, object);
  }

  async replace(type: ResourceType, object: Manifest): Promise<void> {
    this.#check();
    await this.#inner.replace(type, object);
  }

  async delete(type: ResourceType, object: KubernetesObject, dependents?: Dependents): Promise<void> {
    this.#check();
    await this.#inner.delete(type, object, dependents);
  }
}
