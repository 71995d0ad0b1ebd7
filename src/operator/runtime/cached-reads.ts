import type { Clock } from "../../base/clock.ts";
import type { ClusterReads } from "./cluster.ts";
import { matchesLabels } from "./label-selector.ts";
import type { KubernetesObject, ResourceType } from "./objects.ts";

/** What a {@link Reflector} knows of one kind, in one namespace or in all. */
export interface Watched {
  readonly type: ResourceType;
  readonly namespace: string | undefined;
  readonly synced: boolean;
  get(namespace: string | undefined, name: string): KubernetesObject | undefined;
  objects(): Iterable<KubernetesObject>;
}

/** How long what was read of an own object that nobody watches is taken to be so. That there is none is so until the next reading. */
const REMEMBERED_MS = 60_000;

interface Memory {
  readonly object: KubernetesObject | undefined;
  readonly at: number;
}

/**
 * Two ways to read a cluster for one purpose. {@link now} asks the API server, and remembers. {@link known} asks as little as may be: it
 * answers from the watches, and where a kind is not watched there, from what was read last of an object that nobody else makes. The
 * watches may be a little behind, and they only know of objects with our labels, so what they say is good for finding out that nothing
 * is to be done. Whatever is done is decided upon what `now` says.
 */
export class CachedReads {
  readonly #watched: readonly Watched[];
  readonly #memories = new Map<string, Memory>();
  readonly #clock: Clock;
  readonly now: ClusterReads;
  readonly known: ClusterReads;

  /** @param isOwn whether a name is one that nobody else gives */
  constructor(
    watched: readonly Watched[],
    live: ClusterReads,
    clock: Clock,
    isOwn: (name: string) => boolean = () => false,
  ) {
    this.#watched = watched;
    this.#clock = clock;
    this.now = {
      get: async (type, namespace, name) => {
        const object = await live.get(type, namespace, name);
        if (isOwn(name) && this.#watchers(type, namespace) === undefined)
          this.#memories.set(keyOf(type, namespace, name), { object, at: clock.monotonic() });
        return object;
      },
      list: (type, namespace, selector) => live.list(type, namespace, selector),
    };
    this.known = {
      get: async <T extends KubernetesObject>(type: ResourceType<T>, namespace: string | undefined, name: string) => {
        const watchers = this.#watchers(type, namespace);
        if (watchers !== undefined) return firstOf(watchers, namespace, name) as T | undefined;
        const memory = this.#remembered(keyOf(type, namespace, name));
        return memory === undefined ? this.now.get(type, namespace, name) : (memory.object as T | undefined);
      },
      list: async <T extends KubernetesObject>(
        type: ResourceType<T>,
        namespace: string | undefined,
        selector?: string,
      ) => {
        const watchers = this.#watchers(type, namespace);
        return watchers === undefined
          ? live.list(type, namespace, selector)
          : (allOf(watchers, namespace, selector) as T[]);
      },
    };
  }

  /** Those that see the whole of what is asked for, as far as it bears our labels; undefined where there are none. */
  #watchers(type: ResourceType, namespace: string | undefined): readonly Watched[] | undefined {
    const all = this.#watched.filter(
      (watched) =>
        watched.type.kind === type.kind &&
        watched.type.apiVersion === type.apiVersion &&
        (watched.namespace === undefined || watched.namespace === namespace),
    );
    return all.length > 0 && all.every(({ synced }) => synced) ? all : undefined;
  }

  #remembered(key: string): Memory | undefined {
    const memory = this.#memories.get(key);
    if (memory === undefined) return undefined;
    return memory.object === undefined || this.#clock.monotonic() - memory.at < REMEMBERED_MS ? memory : undefined;
  }
}

function keyOf(type: ResourceType, namespace: string | undefined, name: string): string {
  return `${type.apiVersion}/${type.kind}/${namespace ?? ""}/${name}`;
}

function firstOf(watchers: readonly Watched[], namespace: string | undefined, name: string) {
  for (const watched of watchers) {
    const object = watched.get(namespace, name);
    if (object !== undefined) return object;
  }
  return undefined;
}

/** One object may be seen by several watches. */
function allOf(watchers: readonly Watched[], namespace: string | undefined, selector: string | undefined) {
  const found = new Map<string | undefined, KubernetesObject>();
  for (const watched of watchers) {
    for (const object of watched.objects()) {
      const { metadata } = object;
      if (namespace !== undefined && metadata.namespace !== namespace) continue;
      if (matchesLabels(metadata.labels, selector)) found.set(metadata.uid, object);
    }
  }
  return [...found.values()];
}
