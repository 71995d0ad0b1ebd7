import type { ResourceDefinition } from "./definition.ts";

/** Which resources are served: the built-in ones, and those that CustomResourceDefinitions add while it runs. */
export class Registry {
  readonly #resources = new Map<string, ResourceDefinition>();
  readonly #listeners = new Set<() => void>();
  /** Goes up with every change: what was derived from the resources is stale then. */
  #generation = 0;

  constructor(definitions: Iterable<ResourceDefinition>) {
    for (const definition of definitions) this.#resources.set(keyOf(definition.group, definition.resource), definition);
  }

  get generation(): number {
    return this.#generation;
  }

  find(group: string, resource: string): ResourceDefinition | undefined {
    return this.#resources.get(keyOf(group, resource));
  }

  *[Symbol.iterator](): Generator<ResourceDefinition> {
    yield* this.#resources.values();
  }

  set(definition: ResourceDefinition): void {
    this.#resources.set(keyOf(definition.group, definition.resource), definition);
    this.#changed();
  }

  remove(group: string, resource: string): void {
    this.#resources.delete(keyOf(group, resource));
    this.#changed();
  }

  /** Called after a resource was added, changed or removed. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #changed(): void {
    this.#generation++;
    for (const listener of this.#listeners) listener();
  }
}

const keyOf = (group: string, resource: string) => `${group}/${resource}`;
