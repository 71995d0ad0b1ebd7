import type { Logger } from "../../../base/logging.ts";
import { arrayAt, copyJson, isObject, type JsonObject, objectAt, stringAt } from "../json.ts";
import { formatTime, type KubeObject } from "../object.ts";
import type { Cluster } from "../operations/context.ts";
import { deleteObject } from "../operations/deleter.ts";
import { mayGo } from "../operations/updater.ts";
import type { ResourceDefinition } from "../registry/definition.ts";
import { CRD_FINALIZER, CRD_STORAGE_KEY } from "./crd-resource.ts";
import { customDefinition } from "./definition.ts";

/**
 * Serves what CustomResourceDefinitions define: accepts their names, marks them established, and empties those that
 * are being deleted. The real kube-apiserver does this inside too.
 */
export class CrdController {
  readonly #cluster: Cluster;
  readonly #logger: Logger;
  /** The `spec` each served CRD had, to see changes. */
  readonly #served = new Map<string, string>();
  readonly #unwatchInstances = new Map<string, () => void>();
  #scheduled = false;
  #stop: () => void = () => {};

  constructor(cluster: Cluster, logger: Logger) {
    this.#cluster = cluster;
    this.#logger = logger;
  }

  /** Serves what is there already, before anybody asks. */
  start(): void {
    this.#stop = this.#cluster.store.watch(CRD_STORAGE_KEY, this.#cluster.store.revision, () => this.#schedule());
    this.#reconcileAll();
  }

  stop(): void {
    this.#stop();
    for (const unwatch of this.#unwatchInstances.values()) unwatch();
  }

  /** In a turn of its own: whoever made the change has got its answer as the real server would give it. */
  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      try {
        this.#reconcileAll();
      } catch (error) {
        this.#logger.error({ err: error }, "custom resource definitions could not be served");
      }
    });
  }

  #reconcileAll(): void {
    const crds = this.#cluster.store.list(CRD_STORAGE_KEY);
    const names = new Set(crds.map((crd) => crd.metadata.name ?? ""));
    for (const name of this.#served.keys()) if (!names.has(name)) this.#withdraw(name);
    for (const crd of crds) this.#reconcile(crd);
  }

  #reconcile(crd: KubeObject): void {
    if (crd.metadata.deletionTimestamp !== undefined) {
      this.#empty(crd);
      return;
    }
    const name = crd.metadata.name ?? "";
    const spec = JSON.stringify(crd.spec ?? null);
    if (this.#served.get(name) !== spec) {
      this.#cluster.registry.set(customDefinition(crd));
      this.#served.set(name, spec);
    }
    const settled = this.#settled(crd);
    if (settled !== undefined) this.#cluster.store.put(CRD_STORAGE_KEY, settled);
  }

  /** The CRD with the status and finalizer it should have, or undefined where it has them. */
  #settled(crd: KubeObject): KubeObject | undefined {
    const conditions = arrayAt(crd, "status", "conditions").filter(isObject);
    const isEstablished = conditions.some((item) => item.type === "Established" && item.status === "True");
    const hasFinalizer = (crd.metadata.finalizers ?? []).includes(CRD_FINALIZER);
    const stored = arrayAt(crd, "status", "storedVersions");
    const storage = arrayAt(crd, "spec", "versions")
      .filter(isObject)
      .find((version) => version.storage === true);
    const isStored = stored.includes(stringAt(storage, "name"));
    if (isEstablished && hasFinalizer && isStored) return undefined;
    const copy = copyJson(crd);
    if (!hasFinalizer) copy.metadata.finalizers = [...(copy.metadata.finalizers ?? []), CRD_FINALIZER];
    const lastTransitionTime = formatTime(this.#cluster.clock.now());
    const condition = (type: string, reason: string, message: string): JsonObject => ({
      type,
      status: "True",
      lastTransitionTime,
      reason,
      message,
    });
    copy.status = {
      ...objectAt(copy, "status"),
      acceptedNames: objectAt(copy, "spec", "names"),
      storedVersions: isStored ? stored : [...stored, stringAt(storage, "name")],
      conditions: isEstablished
        ? conditions
        : [
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
          ],
    };
    return copy;
  }

  /** Deletes all objects of a CRD that is being deleted, and lets it go when there are none left. */
  #empty(crd: KubeObject): void {
    if (!(crd.metadata.finalizers ?? []).includes(CRD_FINALIZER)) return;
    const { store } = this.#cluster;
    const definition = customDefinition(crd);
    for (const object of store.list(definition.storageKey)) {
      if (object.metadata.deletionTimestamp === undefined) this.#delete(definition, object);
    }
    if (store.list(definition.storageKey).length > 0) {
      this.#watchInstances(crd, definition);
      return;
    }
    const copy = copyJson(crd);
    copy.metadata.finalizers = (copy.metadata.finalizers ?? []).filter((name) => name !== CRD_FINALIZER);
    if (mayGo(copy)) store.remove(CRD_STORAGE_KEY, copy);
    else store.put(CRD_STORAGE_KEY, copy);
  }

  #delete(definition: ResourceDefinition, object: KubeObject): void {
    const { namespace = "", name = "" } = object.metadata;
    const options = { preconditions: {}, propagationPolicy: undefined, gracePeriodSeconds: undefined, dryRun: false };
    deleteObject(this.#cluster, definition, { namespace, name }, options);
  }

  #watchInstances(crd: KubeObject, definition: ResourceDefinition): void {
    const name = crd.metadata.name ?? "";
    if (this.#unwatchInstances.has(name)) return;
    const { store } = this.#cluster;
    this.#unwatchInstances.set(
      name,
      store.watch(definition.storageKey, store.revision, () => this.#schedule()),
    );
  }

  #withdraw(name: string): void {
    this.#served.delete(name);
    this.#unwatchInstances.get(name)?.();
    this.#unwatchInstances.delete(name);
    const dot = name.indexOf(".");
    this.#cluster.registry.remove(name.slice(dot + 1), name.slice(0, dot));
  }
}
