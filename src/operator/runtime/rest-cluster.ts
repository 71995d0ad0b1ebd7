import type { Cluster, Dependents } from "./cluster.ts";
import { isNotFound } from "./errors.ts";
import { listPages } from "./list-pages.ts";
import { type KubernetesObject, type Manifest, type ResourceType, resourcePath } from "./objects.ts";
import type { ApiRequest, Transport } from "./transport.ts";

const FIELD_MANAGER = "vmrestore-operator";

/** The cluster behind an API server. */
export class RestCluster implements Cluster {
  readonly #transport: Pick<Transport, "request">;
  readonly #signal: AbortSignal;

  readonly #fieldManager: string;

  /**
   * @param signal ends requests under way
   * @param fieldManager whose fields server-side apply writes
   */
  constructor(transport: Pick<Transport, "request">, signal: AbortSignal, fieldManager = FIELD_MANAGER) {
    this.#fieldManager = fieldManager;
    this.#transport = transport;
    this.#signal = signal;
  }

  async get<T extends KubernetesObject>(
    type: ResourceType<T>,
    namespace: string | undefined,
    name: string,
  ): Promise<T | undefined> {
    try {
      return (await this.#request({ method: "GET", path: resourcePath(type, namespace, name) })) as T;
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }

  async list<T extends KubernetesObject>(
    type: ResourceType<T>,
    namespace: string | undefined,
    labelSelector?: string,
  ): Promise<T[]> {
    const request = (path: string) => this.#request({ method: "GET", path });
    return (await listPages(request, type, resourcePath(type, namespace), labelSelector)).items;
  }

  async create(type: ResourceType, object: Manifest): Promise<void> {
    const path = `${resourcePath(type, object.metadata.namespace)}?fieldManager=${this.#fieldManager}`;
    await this.#request({ method: "POST", path, body: object });
  }

  apply(type: ResourceType, object: Manifest): Promise<void> {
    return this.#apply(type, object, "");
  }

  applyStatus(type: ResourceType, object: Manifest): Promise<void> {
    return this.#apply(type, object, "/status");
  }

  async replace(type: ResourceType, object: Manifest): Promise<void> {
    const path = `${objectPath(type, object)}?fieldManager=${this.#fieldManager}`;
    await this.#request({ method: "PUT", path, body: object });
  }

  async delete(type: ResourceType, object: KubernetesObject, dependents: Dependents = "Background"): Promise<void> {
    const { uid, resourceVersion } = object.metadata;
    const exactly = dependents === "Orphan" && resourceVersion !== undefined ? { resourceVersion } : {};
    const body = {
      apiVersion: "v1",
      kind: "DeleteOptions",
      propagationPolicy: dependents,
      ...(uid === undefined ? {} : { preconditions: { uid, ...exactly } }),
    };
    try {
      await this.#request({ method: "DELETE", path: objectPath(type, object), body });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }

  async #apply(type: ResourceType, object: Manifest, subresource: string): Promise<void> {
    await this.#request({
      method: "PATCH",
      path: `${objectPath(type, object)}${subresource}?fieldManager=${this.#fieldManager}&force=true`,
      contentType: "application/apply-patch+yaml",
      body: object,
    });
  }

  #request(request: ApiRequest): Promise<unknown> {
    return this.#transport.request({ ...request, signal: this.#signal });
  }
}

function objectPath(type: ResourceType, { metadata }: KubernetesObject): string {
  return resourcePath(type, metadata.namespace, metadata.name);
}
