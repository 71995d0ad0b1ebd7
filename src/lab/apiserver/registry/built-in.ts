import type { KubeObject } from "../object.ts";
import { modelSchema } from "../schema/models.ts";
import { columnsFor } from "../tables/built-in.ts";
import { type CatalogEntry, catalogEntries } from "./catalog.ts";
import type { ResourceDefinition, ScalePaths } from "./definition.ts";
import { eventFromCore, eventToCore } from "./event-conversion.ts";
import { builtInStrategy } from "./strategies.ts";

const SCALE: ScalePaths = {
  specReplicas: ["spec", "replicas"],
  statusReplicas: ["status", "replicas"],
  labelSelector: undefined,
};

const DEFAULT_SERVICE_RANGE = "127.96.0.0/16";

/** Every built-in resource but CustomResourceDefinitions, in the order that discovery lists them. */
export function builtInDefinitions(serviceRange = DEFAULT_SERVICE_RANGE): ResourceDefinition[] {
  return [...catalogEntries()].map((entry) => definitionOf(entry, serviceRange));
}

function definitionOf(entry: CatalogEntry, serviceRange: string): ResourceDefinition {
  const { group, version, resource, kind } = entry;
  const isNewEvent = group === "events.k8s.io";
  return {
    group,
    resource,
    kind,
    singular: kind.toLowerCase(),
    listKind: `${kind}List`,
    shortNames: entry.shortNames,
    categories: entry.all ? ["all"] : [],
    namespaced: entry.namespaced,
    versions: [
      {
        version,
        schema: modelSchema(entry.model),
        columns: columnsFor(group, kind),
        status: entry.status,
        scale: entry.scale ? SCALE : undefined,
      },
    ],
    storageVersion: version,
    custom: false,
    strategy: builtInStrategy(entry, serviceRange),
    storageKey: isNewEvent ? "/events" : `${group}/${resource}`,
    toVersion: isNewEvent ? eventFromCore : same,
    toStorage: isNewEvent ? eventToCore : same,
    subresources: entry.subresources,
  };
}

const same = (object: KubeObject) => object;
