import { copyJson } from "../json.ts";
import type { KubeObject } from "../object.ts";
import { expired, tooLargeResourceVersion } from "../status-error.ts";

/** One change of one object. `previous` is what was there before it: selectors on watches need it. */
export interface Change {
  readonly revision: number;
  readonly resource: string;
  readonly type: "ADDED" | "MODIFIED" | "DELETED";
  readonly object: KubeObject;
  readonly previous: KubeObject | undefined;
}

/** Where changes go to be found again after a restart. */
export interface Journal {
  append(change: Change): void;
}

/** How many changes are kept for watches that come back; older resource versions are "expired". */
const HISTORY_LENGTH = 20_000;

/**
 * All objects, in memory, with one revision counter for everything as etcd has. Everything here is synchronous: what
 * happens between a read and a write in one turn of the event loop is atomic. Objects handed out are shared; nobody
 * changes them.
 */
export class Store {
  readonly #objects = new Map<string, Map<string, KubeObject>>();
  readonly #listeners = new Map<string, Set<(change: Change) => void>>();
  readonly #journal: Journal | undefined;
  readonly #historyLength: number;
  #history: Change[] = [];
  #revision = 1;
  /** Changes up to this revision can't be told any more. */
  #compacted = 0;

  constructor(options: { readonly journal?: Journal; readonly historyLength?: number } = {}) {
    this.#journal = options.journal;
    this.#historyLength = options.historyLength ?? HISTORY_LENGTH;
  }

  get revision(): number {
    return this.#revision;
  }

  /** Takes over what an earlier process left. Its history is gone: older resource versions are expired. */
  load(objects: Iterable<readonly [resource: string, object: KubeObject]>, revision: number): void {
    for (const [resource, object] of objects) this.#of(resource).set(keyOf(object), object);
    this.#revision = Math.max(this.#revision, revision);
    this.#compacted = this.#revision;
  }

  *entries(): Generator<readonly [resource: string, object: KubeObject]> {
    for (const [resource, objects] of this.#objects) for (const object of objects.values()) yield [resource, object];
  }

  get(resource: string, namespace: string, name: string): KubeObject | undefined {
    return this.#objects.get(resource)?.get(`${namespace}/${name}`);
  }

  /** In the order of namespace and name; all namespaces when `namespace` is "". */
  list(resource: string, namespace = ""): KubeObject[] {
    const all = [...(this.#objects.get(resource) ?? [])];
    const prefix = `${namespace}/`;
    return (namespace === "" ? all : all.filter(([key]) => key.startsWith(prefix)))
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([, object]) => object);
  }

  /** Writes a copy of the object with its new resource version, and returns that. */
  put(resource: string, object: KubeObject): KubeObject {
    const objects = this.#of(resource);
    const previous = objects.get(keyOf(object));
    const revision = ++this.#revision;
    const written = withRevision(object, revision);
    objects.set(keyOf(written), written);
    this.#publish({
      revision,
      resource,
      type: previous === undefined ? "ADDED" : "MODIFIED",
      object: written,
      previous,
    });
    return written;
  }

  /** Removes an object that is there; returns it as it last was, with the revision of its removal. */
  remove(resource: string, object: KubeObject): KubeObject {
    const previous = this.#of(resource).get(keyOf(object));
    this.#of(resource).delete(keyOf(object));
    const revision = ++this.#revision;
    const removed = withRevision(object, revision);
    this.#publish({ revision, resource, type: "DELETED", object: removed, previous: previous ?? object });
    return removed;
  }

  /**
   * Tells `listener` every change of the resource after revision `from`: those already made before this returns.
   *
   * @returns ends it
   * @throws StatusError Expired where `from` is older than the kept history, Timeout where it lies in the future
   */
  watch(resource: string, from: number, listener: (change: Change) => void): () => void {
    if (from < this.#compacted) {
      throw expired(`too old resource version: ${from} (${this.#compacted + 1})`);
    }
    if (from > this.#revision) throw tooLargeResourceVersion(from, this.#revision);
    for (const change of this.#history) {
      if (change.revision > from && change.resource === resource) listener(change);
    }
    const listeners = this.#listeners.get(resource) ?? new Set();
    this.#listeners.set(resource, listeners);
    listeners.add(listener);
    return () => listeners.delete(listener);
  }

  #of(resource: string): Map<string, KubeObject> {
    let objects = this.#objects.get(resource);
    if (objects === undefined) {
      objects = new Map();
      this.#objects.set(resource, objects);
    }
    return objects;
  }

  #publish(change: Change): void {
    this.#journal?.append(change);
    this.#history.push(change);
    if (this.#history.length > 2 * this.#historyLength) {
      this.#history = this.#history.slice(-this.#historyLength);
      this.#compacted = (this.#history[0]?.revision ?? this.#revision + 1) - 1;
    }
    for (const listener of [...(this.#listeners.get(change.resource) ?? [])]) listener(change);
  }
}

const keyOf = (object: KubeObject) => `${object.metadata.namespace ?? ""}/${object.metadata.name ?? ""}`;

function withRevision(object: KubeObject, revision: number): KubeObject {
  const copy = copyJson(object);
  copy.metadata.resourceVersion = String(revision);
  return copy;
}
