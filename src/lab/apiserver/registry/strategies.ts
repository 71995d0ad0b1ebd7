import type { KubeObject } from "../object.ts";
import type { Store } from "../store/store.ts";
import type { CatalogEntry } from "./catalog.ts";
import type { Strategy } from "./definition.ts";
import { PREPARE_CREATE, PREPARE_UPDATE } from "./kind-strategies.ts";

const nothing = (): void => {};

/** What a built-in kind does beyond being stored. */
export function builtInStrategy(entry: CatalogEntry, serviceRange: string): Strategy {
  return {
    generation: entry.generation,
    returnsDeleted: entry.returnsDeleted,
    requiresRevision: false,
    deletion: entry.kind === "Job" ? "Orphan" : "Background",
    applyDefaults: nothing,
    prepareCreate: (object: KubeObject, store: Store) => {
      if (entry.status) delete object.status;
      PREPARE_CREATE[entry.kind]?.(object, store, serviceRange);
    },
    prepareUpdate: (object: KubeObject, old: KubeObject) => PREPARE_UPDATE[entry.kind]?.(object, old),
    validateCreate: () => [],
    validateUpdate: () => [],
  };
}
