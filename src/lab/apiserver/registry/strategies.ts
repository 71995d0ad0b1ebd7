import type { KubeObject } from "../object.ts";
import type { CatalogEntry } from "./catalog.ts";
import type { Strategy } from "./definition.ts";

const nothing = (): void => {};

/** What a built-in kind does beyond being stored. */
export function builtInStrategy(entry: CatalogEntry): Strategy {
  return {
    generation: entry.generation,
    returnsDeleted: entry.returnsDeleted,
    requiresRevision: false,
    deletion: entry.kind === "Job" ? "Orphan" : "Background",
    applyDefaults: nothing,
    prepareCreate: (object: KubeObject) => {
      if (entry.status) delete object.status;
    },
    prepareUpdate: nothing,
    validateCreate: () => [],
    validateUpdate: () => [],
  };
}
