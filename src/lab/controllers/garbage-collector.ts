import { errorMessage } from "../../base/errors.ts";
import { isConflict, isNotFound } from "../../operator/runtime/errors.ts";
import { type KubernetesObject, type ResourceType, resourcePath } from "../../operator/runtime/objects.ts";
import { Reflector } from "../../operator/runtime/reflector.ts";
import { WorkQueue } from "../../operator/runtime/work-queue.ts";
import { discoverTypes } from "./discovery.ts";
import type { LabObject, OwnerReference } from "./kinds.ts";
import type { LabContext } from "./lab-controller.ts";
import { decideFate, FOREGROUND, type GraphNode, ObjectGraph, ORPHAN, type OwnerState } from "./object-graph.ts";

const VERBS = ["list", "watch", "delete", "patch"];
/** Nothing depends on these, and they are many or change often. */
const LEFT_OUT = new Set(["Event", "Lease"]);
const DISCOVERY_INTERVAL_MS = 30_000;
/** A new kind is served shortly after its definition changed. */
const DEFINITION_DELAY_MS = 300;
const SYNC_POLL_MS = 50;
const RETRY = { baseMs: 100, maxMs: 5000 };

interface Watched {
  readonly type: ResourceType;
  readonly reflector: Reflector<KubernetesObject>;
  readonly stop: AbortController;
}

/**
 * Deletes what belongs to owners that are gone, and does what the finalizers `foregroundDeletion` and `orphan` promise
 * (Kubernetes, "Garbage Collection"). An API server alone does none of it.
 */
export function runGarbageCollector(context: LabContext, signal: AbortSignal): Promise<void> {
  return new GarbageCollector(context).run(signal);
}

class GarbageCollector {
  readonly #context: LabContext;
  readonly #graph = new ObjectGraph();
  readonly #queue: WorkQueue;
  readonly #watched = new Map<string, Watched>();
  #wake = new AbortController();

  constructor(context: LabContext) {
    this.#context = context;
    this.#queue = new WorkQueue(context.clock, RETRY);
  }

  async run(signal: AbortSignal): Promise<void> {
    signal.addEventListener("abort", () => this.#queue.close(), { once: true });
    const discovery = this.#discover(signal);
    await this.#synced(signal);
    for (let uid = await this.#queue.take(); uid !== undefined; uid = await this.#queue.take()) {
      try {
        await this.#collect(uid);
        this.#queue.forget(uid);
      } catch (error) {
        if (!signal.aborted && !isConflict(error)) {
          this.#context.logger.warn({ uid, error: errorMessage(error) }, "garbage collection failed");
        }
        this.#queue.addRateLimited(uid);
      } finally {
        this.#queue.done(uid);
      }
    }
    await discovery;
  }

  /** Kinds come and go with CustomResourceDefinitions. */
  async #discover(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#watchServedKinds(signal).catch((error: unknown) => {
        if (!signal.aborted) this.#context.logger.warn({ error: errorMessage(error) }, "discovery failed");
      });
      const woken = AbortSignal.any([signal, this.#wake.signal]);
      await this.#context.clock.sleep(DISCOVERY_INTERVAL_MS, woken).catch(() => undefined);
      if (!this.#wake.signal.aborted) continue;
      this.#wake = new AbortController();
      await this.#context.clock.sleep(DEFINITION_DELAY_MS, signal).catch(() => undefined);
    }
  }

  async #watchServedKinds(signal: AbortSignal): Promise<void> {
    const types = (await discoverTypes(this.#context, VERBS)).filter(({ kind }) => !LEFT_OUT.has(kind));
    const served = new Map(types.map((type) => [`${type.apiVersion} ${type.kind}`, type]));
    for (const [key, type] of served) if (!this.#watched.has(key)) this.#watch(key, type, signal);
    for (const [key, { stop }] of this.#watched) {
      if (served.has(key)) continue;
      stop.abort();
      this.#watched.delete(key);
    }
  }

  #watch(key: string, type: ResourceType, signal: AbortSignal): void {
    const { transport, clock, logger } = this.#context;
    const stop = new AbortController();
    const onChange = (object: KubernetesObject): void => this.#see(type, object as LabObject);
    const reflector = new Reflector({ transport, type, onChange, clock, logger });
    this.#watched.set(key, { type, reflector, stop });
    // Until now nobody could tell whether owners of this kind are there; they may have gone before they were ever seen.
    for (const { uid } of this.#graph.namingOwnersOf(type.kind)) this.#queue.add(uid);
    void reflector.run(AbortSignal.any([signal, stop.signal]));
  }

  #see(type: ResourceType, object: LabObject): void {
    const { uid = "", deletionTimestamp, ownerReferences = [] } = object.metadata;
    const known = this.#graph.get(uid);
    this.#graph.set(type, object);
    if (type.kind === "CustomResourceDefinition") this.#wake.abort();
    // What owned this one may have waited for the change; what it owns may have to go.
    for (const owner of known?.owners ?? []) this.#queue.add(owner.uid);
    const isConcerned =
      ownerReferences.length > 0 || deletionTimestamp !== undefined || this.#graph.dependentsOf(uid).length > 0;
    if (isConcerned) this.#queue.add(uid);
  }

  /** Decisions need all that is there: before that, a dependent that was not seen yet would be forgotten. */
  async #synced(signal: AbortSignal): Promise<void> {
    const isSynced = () =>
      this.#watched.size > 0 && [...this.#watched.values()].every(({ reflector }) => reflector.synced);
    while (!signal.aborted && !isSynced()) await this.#context.clock.sleep(SYNC_POLL_MS, signal).catch(() => undefined);
  }

  async #collect(uid: string): Promise<void> {
    const node = this.#graph.get(uid);
    if (node === undefined) return;
    const live = await this.#read(node);
    if (live === undefined) {
      const dependents = this.#graph.dependentsOf(uid);
      this.#graph.remove(uid);
      for (const { uid: next } of [...dependents, ...node.owners]) this.#queue.add(next);
      return;
    }
    const { finalizers = [], deletionTimestamp, ownerReferences = [] } = live.metadata;
    if (deletionTimestamp !== undefined) return this.#whileDeleting(node, live, finalizers);
    // Owners are asked for: what was seen of them may be old.
    const owners = await Promise.all(ownerReferences.map((reference) => this.#stateOf(reference, node)));
    const fate = decideFate(owners, finalizers, this.#graph.dependentsOf(uid).length > 0);
    if (fate.action === "delete") await this.#delete(node, live, fate.policy);
    if (fate.action === "release") await this.#release(node, live, fate.uids);
  }

  async #whileDeleting(node: GraphNode, live: LabObject, finalizers: readonly string[]): Promise<void> {
    const dependents = this.#graph.dependentsOf(node.uid);
    if (finalizers.includes(ORPHAN)) {
      for (const dependent of dependents) {
        const object = await this.#read(dependent);
        if (object !== undefined) await this.#release(dependent, object, [node.uid]);
      }
      await this.#patchFinalizers(
        node,
        live,
        finalizers.filter((name) => name !== ORPHAN),
      );
      return;
    }
    if (!finalizers.includes(FOREGROUND)) return;
    const blocks = ({ owners }: GraphNode) =>
      owners.some((owner) => owner.uid === node.uid && owner.blockOwnerDeletion === true);
    for (const dependent of dependents) this.#queue.add(dependent.uid);
    // Comes back when the last of them is gone.
    if (dependents.some(blocks)) return;
    await this.#patchFinalizers(
      node,
      live,
      finalizers.filter((name) => name !== FOREGROUND),
    );
  }

  /** A reference to a later object of the same name counts as one to nothing. */
  async #stateOf(reference: OwnerReference, dependent: GraphNode): Promise<OwnerState> {
    const type = [...this.#watched.values()].find(
      ({ type: { kind, apiVersion } }) =>
        kind === reference.kind && groupOf(apiVersion) === groupOf(reference.apiVersion),
    )?.type;
    // A kind that nobody serves may come back: what it owns stays.
    if (type === undefined) return { reference, state: "solid" };
    const namespace = type.namespaced ? dependent.namespace : undefined;
    const owner = await this.#context.cluster.get<KubernetesObject>(type, namespace, reference.name);
    if (owner === undefined || owner.metadata.uid !== reference.uid) return { reference, state: "dangling" };
    const { deletionTimestamp, finalizers = [] } = owner.metadata;
    const isWaiting = deletionTimestamp !== undefined && finalizers.includes(FOREGROUND);
    return { reference, state: isWaiting ? "waiting" : "solid" };
  }

  async #read({ type, namespace, name, uid }: GraphNode): Promise<LabObject | undefined> {
    const object = await this.#context.cluster.get<KubernetesObject>(type, namespace, name);
    return object?.metadata.uid === uid ? (object as LabObject) : undefined;
  }

  async #delete({ type, namespace, name, uid }: GraphNode, live: LabObject, propagationPolicy: string): Promise<void> {
    const { resourceVersion } = live.metadata;
    const preconditions = { uid, resourceVersion };
    const body = { apiVersion: "v1", kind: "DeleteOptions", propagationPolicy, preconditions };
    await this.#ignoringGone({ method: "DELETE", path: resourcePath(type, namespace, name), body });
  }

  #release(node: GraphNode, live: LabObject, uids: readonly string[]): Promise<void> {
    const ownerReferences = (live.metadata.ownerReferences ?? []).filter(({ uid }) => !uids.includes(uid));
    return this.#patch(node, live, { ownerReferences: ownerReferences.length === 0 ? null : ownerReferences });
  }

  #patchFinalizers(node: GraphNode, live: LabObject, finalizers: readonly string[]): Promise<void> {
    return this.#patch(node, live, { finalizers: finalizers.length === 0 ? null : finalizers });
  }

  async #patch({ type, namespace, name, uid }: GraphNode, live: LabObject, metadata: object): Promise<void> {
    const { resourceVersion } = live.metadata;
    await this.#ignoringGone({
      method: "PATCH",
      path: `${resourcePath(type, namespace, name)}?fieldManager=vmrestore-lab-garbage-collector`,
      contentType: "application/merge-patch+json",
      body: { metadata: { uid, resourceVersion, ...metadata } },
    });
  }

  async #ignoringGone(request: Parameters<LabContext["transport"]["request"]>[0]): Promise<void> {
    try {
      await this.#context.transport.request(request);
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }
}

const groupOf = (apiVersion: string) => (apiVersion.includes("/") ? apiVersion.split("/")[0] : "");
