import { coreStrategies } from "../kinds/core.ts";
import type { KindStrategy } from "../kinds/kind.ts";
import { podStrategy } from "../kinds/pod.ts";
import { serviceStrategy } from "../kinds/service.ts";
import { storageStrategies } from "../kinds/storage.ts";
import { workloadStrategies } from "../kinds/workloads.ts";
import type { CatalogEntry } from "./catalog.ts";
import type { Strategy } from "./definition.ts";

/**
 * What a built-in kind does beyond being stored.
 *
 * @param serviceRange where Services get their addresses from, in CIDR notation
 */
export function builtInStrategy(entry: CatalogEntry, serviceRange: string): Strategy {
  const own = ownStrategy(`${entry.group}/${entry.kind}`, serviceRange);
  const validateCreate = own.validateCreate ?? (() => []);
  return {
    generation: entry.generation,
    returnsDeleted: entry.returnsDeleted,
    requiresRevision: false,
    // batch/v1 keeps a Job's pods where the client does not say; every client of today says.
    deletion: entry.kind === "Job" ? "Orphan" : "Background",
    applyDefaults: own.applyDefaults ?? (() => {}),
    prepareCreate: (object, store) => {
      if (entry.status) delete object.status;
      own.prepareCreate?.(object, store);
    },
    prepareUpdate: own.prepareUpdate ?? (() => {}),
    validateCreate,
    validateUpdate: own.validateUpdate ?? validateCreate,
  };
}

function ownStrategy(key: string, serviceRange: string): KindStrategy {
  if (key === "/Pod") return podStrategy;
  if (key === "/Service") return serviceStrategy(serviceRange);
  return coreStrategies[key] ?? storageStrategies[key] ?? workloadStrategies[key] ?? {};
}
