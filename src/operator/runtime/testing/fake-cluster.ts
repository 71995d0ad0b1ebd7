import { randomUUID } from "node:crypto";
import type { Clock } from "../../../base/clock.ts";
import type { Cluster, Dependents } from "../cluster.ts";
import { ApiError } from "../errors.ts";
import { matchesLabels } from "../label-selector.ts";
import type { KubernetesObject, Manifest, ResourceType } from "../objects.ts";

export interface Write {
  readonly verb: "create" | "patch" | "update" | "delete";
  readonly type: ResourceType;
  readonly subresource: "" | "status";
  readonly namespace: string | undefined;
  readonly name: string;
}

export interface Read {
  readonly verb: "get" | "list";
  readonly type: ResourceType;
  readonly namespace: string | undefined;
}

type Stored = Manifest & { status?: unknown; spec?: unknown };

/**
 * A cluster in memory: resource versions, uids, generations, conflicts and finalizers as an API server has them. What it gives is
 * shared by all who read it, as objects of an informer's cache are, and frozen: who changes it is found.
 */
export class FakeCluster implements Cluster {
  readonly writes: Write[] = [];
  readonly reads: Read[] = [];
  /** Called before and after each write takes effect; what it throws reaches the caller. */
  onWrite: (write: Write, moment: "before" | "after") => void = () => undefined;
  /** Called with each object that was changed, and with the last state of one that is gone. */
  onChange: (object: Manifest, before: Manifest | undefined, is: "present" | "gone") => void = () => undefined;
  readonly #clock: Clock;
  readonly #objects = new Map<string, Stored>();
  /** What was stored, but for its version. */
  readonly #texts = new Map<string, string>();
  #version = 1;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  async get<T extends KubernetesObject>(
    type: ResourceType<T>,
    namespace: string | undefined,
    name: string,
  ): Promise<T | undefined> {
    this.reads.push({ verb: "get", type, namespace });
    return this.peek(type, namespace, name);
  }

  async list<T extends KubernetesObject>(
    type: ResourceType<T>,
    namespace: string | undefined,
    labelSelector?: string,
  ): Promise<T[]> {
    this.reads.push({ verb: "list", type, namespace });
    return this.all(type).filter(
      (object) =>
        (namespace === undefined || object.metadata.namespace === namespace) &&
        matchesLabels(object.metadata.labels, labelSelector),
    );
  }

  async create(type: ResourceType, object: Manifest): Promise<void> {
    const key = keyOf(type, object.metadata.namespace, object.metadata.name);
    this.#write({ verb: "create", type, subresource: "" }, object, () => {
      if (this.#objects.has(key)) throw new ApiError(`${key} exists`, { status: 409, reason: "AlreadyExists" });
      this.put(type, object);
    });
  }

  async apply(type: ResourceType, object: Manifest): Promise<void> {
    const key = keyOf(type, object.metadata.namespace, object.metadata.name);
    this.#write({ verb: "patch", type, subresource: "" }, object, () => {
      const before = this.#objects.get(key);
      this.put(type, before === undefined ? object : (merge(before, object) as Stored));
    });
  }

  async applyStatus(type: ResourceType, object: Manifest): Promise<void> {
    const key = keyOf(type, object.metadata.namespace, object.metadata.name);
    this.#write({ verb: "patch", type, subresource: "status" }, object, () => {
      const before = this.#objects.get(key);
      if (before === undefined) throw new ApiError(`${key} is not there`, { status: 404 });
      const { uid, resourceVersion } = { ...before.metadata, ...object.metadata };
      if (uid !== before.metadata.uid || resourceVersion !== before.metadata.resourceVersion)
        throw new ApiError(`${key} was changed`, { status: 409, reason: "Conflict" });
      this.#store(key, { ...before, status: object.status });
    });
  }

  async replace(type: ResourceType, object: Manifest): Promise<void> {
    const key = keyOf(type, object.metadata.namespace, object.metadata.name);
    this.#write({ verb: "update", type, subresource: "" }, object, () => {
      const before = this.#objects.get(key);
      if (before === undefined) throw new ApiError(`${key} is not there`, { status: 404 });
      if (before.metadata.resourceVersion !== object.metadata.resourceVersion) {
        throw new ApiError(`${key} was changed`, { status: 409, reason: "Conflict" });
      }
      const { status: _, ...rest } = object as Stored;
      const changed = JSON.stringify(rest.spec) !== JSON.stringify(before.spec);
      const generation = (before.metadata.generation ?? 1) + (changed ? 1 : 0);
      const next = { ...rest, ...(before.status === undefined ? {} : { status: before.status }) };
      this.#store(key, { ...next, metadata: { ...next.metadata, generation } });
      this.#collect(key);
    });
  }

  async delete(type: ResourceType, object: KubernetesObject, dependents?: Dependents): Promise<void> {
    const key = keyOf(type, object.metadata.namespace, object.metadata.name);
    this.#write({ verb: "delete", type, subresource: "" }, object, () => {
      const present = this.#objects.get(key);
      if (present === undefined) return;
      if (object.metadata.uid !== undefined && object.metadata.uid !== present.metadata.uid) {
        throw new ApiError(`${key} is another`, { status: 409, reason: "Conflict" });
      }
      if (dependents === "Orphan") {
        if (object.metadata.resourceVersion !== present.metadata.resourceVersion)
          throw new ApiError(`${key} was changed`, { status: 409, reason: "Conflict" });
        this.#orphan(present.metadata.uid);
      }
      this.erase(type, object.metadata.namespace, object.metadata.name);
    });
  }

  /** What anybody else but the code under test does; not recorded. */
  peek<T extends KubernetesObject>(type: ResourceType<T>, namespace: string | undefined, name: string): T | undefined {
    return this.#objects.get(keyOf(type, namespace, name)) as T | undefined;
  }

  all<T extends KubernetesObject>(type: ResourceType<T>): T[] {
    return [...this.#objects.values()].filter(({ kind }) => kind === type.kind) as unknown as T[];
  }

  /** Every object, by kind, namespace and name. */
  keys(): string[] {
    return [...this.#objects.keys()].sort();
  }

  /** @param uid of a new object; by default a random one */
  put(type: ResourceType, object: object, uid: string = randomUUID()): void {
    const given = object as Stored;
    const key = keyOf(type, given.metadata.namespace, given.metadata.name);
    const before = this.#objects.get(key);
    const defaults = {
      uid: before?.metadata.uid ?? uid,
      creationTimestamp: before?.metadata.creationTimestamp ?? new Date(this.#clock.now()).toISOString(),
      generation:
        (before?.metadata.generation ?? 0) + (JSON.stringify(before?.spec) === JSON.stringify(given.spec) ? 0 : 1) || 1,
    };
    this.#store(key, { ...given, metadata: { ...given.metadata, ...defaults } });
  }

  change<T extends KubernetesObject>(
    type: ResourceType<T>,
    namespace: string | undefined,
    name: string,
    change: (object: T) => void,
  ): void {
    const object = structuredClone(this.peek(type, namespace, name));
    if (object === undefined) return;
    change(object);
    this.put(type, object);
  }

  erase(type: ResourceType, namespace: string | undefined, name: string): void {
    const key = keyOf(type, namespace, name);
    const present = this.#objects.get(key);
    if (present === undefined) return;
    const deletionTimestamp = present.metadata.deletionTimestamp ?? new Date(this.#clock.now()).toISOString();
    this.#store(key, { ...present, metadata: { ...present.metadata, deletionTimestamp } });
    this.#collect(key);
  }

  /** What had an owner reference to it has none any more. */
  #orphan(owner: string | undefined): void {
    for (const [key, { metadata, ...rest }] of [...this.#objects]) {
      const left = metadata.ownerReferences?.filter(({ uid }) => uid !== owner);
      if (left?.length !== metadata.ownerReferences?.length)
        this.#store(key, { ...rest, metadata: { ...metadata, ownerReferences: left } } as Stored);
    }
  }

  #collect(key: string): void {
    const present = this.#objects.get(key);
    if (present?.metadata.deletionTimestamp === undefined || (present.metadata.finalizers ?? []).length > 0) return;
    this.#objects.delete(key);
    const metadata = { ...present.metadata, resourceVersion: String(++this.#version) };
    this.onChange({ ...present, metadata }, present, "gone");
  }

  #store(key: string, object: Stored): void {
    // As it comes back from a server: without what is undefined.
    const text = JSON.stringify({ ...object, metadata: { ...object.metadata, resourceVersion: "" } });
    const before = this.#objects.get(key);
    // A write that changes nothing makes no new version.
    if (before !== undefined && this.#texts.get(key) === text) return;
    const after = JSON.parse(text) as Stored;
    after.metadata.resourceVersion = String(++this.#version);
    freeze(after);
    this.#texts.set(key, text);
    this.#objects.set(key, after);
    this.onChange(after, before, "present");
  }

  get version(): string {
    return String(this.#version);
  }

  #write(what: Pick<Write, "verb" | "type" | "subresource">, object: KubernetesObject, effect: () => void): void {
    const write = { ...what, namespace: object.metadata.namespace, name: object.metadata.name };
    this.onWrite(write, "before");
    effect();
    this.writes.push(write);
    this.onWrite(write, "after");
  }
}

function keyOf(type: ResourceType, namespace: string | undefined, name: string): string {
  return `${type.kind}/${type.namespaced ? namespace : ""}/${name}`;
}

function merge(base: unknown, over: unknown): unknown {
  if (typeof base !== "object" || typeof over !== "object" || base === null || over === null || Array.isArray(over))
    return over;
  const result: Record<string, unknown> = { ...(base as Record<string, unknown>) };
  for (const [key, value] of Object.entries(over)) result[key] = merge(result[key], value);
  return result;
}

function freeze(value: unknown): void {
  if (typeof value !== "object" || value === null) return;
  Object.freeze(value);
  for (const inner of Object.values(value)) freeze(inner);
}
