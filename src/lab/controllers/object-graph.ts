import type { ResourceType } from "../../operator/runtime/objects.ts";
import type { LabObject, OwnerReference } from "./kinds.ts";

export const FOREGROUND = "foregroundDeletion";
export const ORPHAN = "orphan";

/** An object as the garbage collector knows it. */
export interface GraphNode {
  readonly uid: string;
  readonly type: ResourceType;
  readonly namespace: string | undefined;
  readonly name: string;
  readonly owners: readonly OwnerReference[];
}

/** Who owns whom, by uid. */
export class ObjectGraph {
  readonly #nodes = new Map<string, GraphNode>();
  readonly #dependents = new Map<string, Set<string>>();

  get(uid: string): GraphNode | undefined {
    return this.#nodes.get(uid);
  }

  set(type: ResourceType, object: LabObject): void {
    const { uid = "", namespace, name, ownerReferences = [] } = object.metadata;
    this.remove(uid);
    this.#nodes.set(uid, { uid, type, namespace, name, owners: ownerReferences });
    for (const owner of ownerReferences) {
      const dependents = this.#dependents.get(owner.uid) ?? new Set();
      this.#dependents.set(owner.uid, dependents.add(uid));
    }
  }

  remove(uid: string): void {
    for (const owner of this.#nodes.get(uid)?.owners ?? []) {
      const dependents = this.#dependents.get(owner.uid);
      dependents?.delete(uid);
      if (dependents?.size === 0) this.#dependents.delete(owner.uid);
    }
    this.#nodes.delete(uid);
  }

  /** Those that name an owner of this kind, whether it was ever seen or not. */
  namingOwnersOf(kind: string): GraphNode[] {
    return [...this.#nodes.values()].filter(({ owners }) => owners.some((owner) => owner.kind === kind));
  }

  dependentsOf(uid: string): GraphNode[] {
    return [...(this.#dependents.get(uid) ?? [])].flatMap((dependent) => this.#nodes.get(dependent) ?? []);
  }
}

/** What an owner turned out to be: there, gone, or there only until its dependents are gone. */
export interface OwnerState {
  readonly reference: OwnerReference;
  readonly state: "solid" | "dangling" | "waiting";
}

type Fate =
  | { readonly action: "keep" }
  | { readonly action: "release"; readonly uids: readonly string[] }
  | { readonly action: "delete"; readonly policy: "Background" | "Foreground" | "Orphan" };

/** Owned objects live as long as one of their owners does. */
export function decideFate(owners: readonly OwnerState[], finalizers: readonly string[], hasDependents: boolean): Fate {
  const gone = owners.filter(({ state }) => state !== "solid");
  if (owners.length === 0 || gone.length === 0) return { action: "keep" };
  if (gone.length < owners.length) return { action: "release", uids: gone.map(({ reference }) => reference.uid) };
  if (hasDependents && owners.some(({ state }) => state === "waiting"))
    return { action: "delete", policy: "Foreground" };
  if (finalizers.includes(ORPHAN)) return { action: "delete", policy: "Orphan" };
  return { action: "delete", policy: finalizers.includes(FOREGROUND) ? "Foreground" : "Background" };
}
