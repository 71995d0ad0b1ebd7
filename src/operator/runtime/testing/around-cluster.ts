import type { Cluster, Dependents } from "../cluster.ts";
import type { KubernetesObject, Manifest, ResourceType } from "../objects.ts";

/** A request, as far as faults are chosen by it. */
export interface Call {
  readonly verb: "get" | "list" | "create" | "apply" | "applyStatus" | "replace" | "delete";
  readonly type: ResourceType;
  readonly namespace: string | undefined;
  /** Empty for a list. */
  readonly name: string;
}

/** Stands before what a request does: may delay it, refuse it, do it and say otherwise. */
export type Around = <T>(call: Call, carryOut: () => Promise<T>) => Promise<T>;

/** A cluster behind a connection that is as bad as a test wants it. */
export class AroundCluster implements Cluster {
  readonly #inner: Cluster;
  readonly #around: Around;

  constructor(inner: Cluster, around: Around) {
    this.#inner = inner;
    this.#around = around;
  }

  get<T extends KubernetesObject>(type: ResourceType<T>, namespace: string | undefined, name: string) {
    return this.#around({ verb: "get", type, namespace, name }, () => this.#inner.get(type, namespace, name));
  }

  list<T extends KubernetesObject>(type: ResourceType<T>, namespace: string | undefined, labelSelector?: string) {
    return this.#around({ verb: "list", type, namespace, name: "" }, () =>
      this.#inner.list(type, namespace, labelSelector),
    );
  }

  create(type: ResourceType, object: Manifest): Promise<void> {
    return this.#around(call("create", type, object), () => this.#inner.create(type, object));
  }

  apply(type: ResourceType, object: Manifest): Promise<void> {
    return this.#around(call("apply", type, object), () => this.#inner.apply(type, object));
  }

  applyStatus(type: ResourceType, object: Manifest): Promise<void> {
    return this.#around(call("applyStatus", type, object), () => this.#inner.applyStatus(type, object));
  }

  replace(type: ResourceType, object: Manifest): Promise<void> {
    return this.#around(call("replace", type, object), () => this.#inner.replace(type, object));
  }

  delete(type: ResourceType, object: KubernetesObject, dependents?: Dependents): Promise<void> {
    return this.#around(call("delete", type, object), () => this.#inner.delete(type, object, dependents));
  }
}

function call(verb: Call["verb"], type: ResourceType, { metadata }: KubernetesObject): Call {
  return { verb, type, namespace: metadata.namespace, name: metadata.name };
}
