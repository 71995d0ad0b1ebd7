import type { JsonObject } from "../json.ts";
import { apiVersionOf, type ResourceDefinition, type VersionDefinition } from "../registry/definition.ts";
import type { Registry } from "../registry/registry.ts";
import { REVIEWS } from "../reviews/reviews.ts";

const VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const PART_VERBS = ["get", "patch", "update"];

/** Further subresources: the verbs they take and the kind they speak. */
const SUBRESOURCES: Readonly<
  Record<string, { readonly verbs: readonly string[]; readonly kind?: string; readonly gv?: string }>
> = {
  log: { verbs: ["get"] },
  eviction: { verbs: ["create"], kind: "Eviction", gv: "policy/v1" },
  binding: { verbs: ["create"], kind: "Binding" },
  finalize: { verbs: ["update"] },
};

interface Listed {
  readonly name: string;
  readonly singularName: string;
  readonly namespaced: boolean;
  readonly group?: string;
  readonly version?: string;
  readonly kind: string;
  readonly verbs: readonly string[];
  readonly shortNames?: readonly string[];
  readonly categories?: readonly string[];
}

function listed(definition: ResourceDefinition, version: VersionDefinition): Listed[] {
  const { resource, namespaced, kind, shortNames, categories } = definition;
  const part = (name: string, verbs: readonly string[], partKind: string, gv?: string): Listed => {
    const [group, groupVersion] = gv?.split("/") ?? [];
    return {
      name: `${resource}/${name}`,
      singularName: "",
      namespaced,
      ...(group === undefined || groupVersion === undefined ? {} : { group, version: groupVersion }),
      kind: partKind,
      verbs,
    };
  };
  return [
    {
      name: resource,
      singularName: definition.singular,
      namespaced,
      kind,
      verbs: VERBS,
      ...(shortNames.length === 0 ? {} : { shortNames }),
      ...(categories.length === 0 ? {} : { categories }),
    },
    ...(version.status ? [part("status", PART_VERBS, kind)] : []),
    ...(version.scale === undefined ? [] : [part("scale", PART_VERBS, "Scale", "autoscaling/v1")]),
    ...definition.subresources.map((name) => {
      const about = SUBRESOURCES[name];
      return part(name, about?.verbs ?? [], about?.kind ?? kind, about?.gv);
    }),
  ];
}

/** What each group and version serves, in the order of first appearance. */
function groupVersions(registry: Registry): Map<string, Map<string, Listed[]>> {
  const groups = new Map<string, Map<string, Listed[]>>();
  const into = (group: string, version: string): Listed[] => {
    const versions = groups.get(group) ?? new Map<string, Listed[]>();
    groups.set(group, versions);
    const resources = versions.get(version) ?? [];
    versions.set(version, resources);
    return resources;
  };
  for (const definition of registry) {
    for (const version of definition.versions)
      into(definition.group, version.version).push(...listed(definition, version));
  }
  for (const { group, version, resource, kind, namespaced } of REVIEWS) {
    into(group, version).push({
      name: resource,
      singularName: kind.toLowerCase(),
      namespaced,
      kind,
      verbs: ["create"],
    });
  }
  return groups;
}

/** `/api`. */
export function coreVersions(address: string): JsonObject {
  return {
    kind: "APIVersions",
    versions: ["v1"],
    serverAddressByClientCIDRs: [{ clientCIDR: "0.0.0.0/0", serverAddress: address }],
  };
}

/** `/apis`. */
export function groupList(registry: Registry): JsonObject {
  const groups = [...groupVersions(registry)].filter(([group]) => group !== "");
  return {
    kind: "APIGroupList",
    apiVersion: "v1",
    groups: groups.map(([name, versions]) => apiGroup(name, [...versions.keys()])),
  };
}

function apiGroup(name: string, names: readonly string[]): JsonObject {
  const versions = names.map((version) => ({ groupVersion: `${name}/${version}`, version }));
  return { name, versions, preferredVersion: versions[0] };
}

/** `/apis/GROUP`, or undefined where there is no such group. */
export function groupOf(registry: Registry, group: string): JsonObject | undefined {
  const versions = groupVersions(registry).get(group);
  if (versions === undefined || group === "") return undefined;
  return { kind: "APIGroup", apiVersion: "v1", ...apiGroup(group, [...versions.keys()]) };
}

/** `/api/v1`, `/apis/GROUP/VERSION`, or undefined. */
export function resourceList(registry: Registry, group: string, version: string): JsonObject | undefined {
  const resources = groupVersions(registry).get(group)?.get(version);
  if (resources === undefined) return undefined;
  return {
    kind: "APIResourceList",
    apiVersion: "v1",
    groupVersion: apiVersionOf(group, version),
    resources: resources.map((resource) => ({ ...resource })) as unknown as JsonObject[],
  };
}

/** `/api` or `/apis` in the form of apidiscovery.k8s.io: everything in one answer. */
export function aggregated(registry: Registry, core: boolean, apiVersion: string): JsonObject {
  const groups = [...groupVersions(registry)].filter(([group]) => (group === "") === core);
  return {
    kind: "APIGroupDiscoveryList",
    apiVersion: `apidiscovery.k8s.io/${apiVersion}`,
    metadata: {},
    items: groups.map(([name, versions]) => ({
      metadata: { ...(name === "" ? {} : { name }), creationTimestamp: null },
      versions: [...versions].map(([version, resources]) => ({
        version,
        resources: aggregatedResources(name, version, resources),
        freshness: "Current",
      })),
    })),
  };
}

function aggregatedResources(group: string, version: string, resources: readonly Listed[]): JsonObject[] {
  const kindOf = (resource: Listed) => ({
    group: resource.group ?? group,
    version: resource.version ?? version,
    kind: resource.kind,
  });
  return resources
    .filter((resource) => !resource.name.includes("/"))
    .map((resource) => {
      const parts = resources.filter((part) => part.name.startsWith(`${resource.name}/`));
      return {
        resource: resource.name,
        responseKind: kindOf(resource),
        scope: resource.namespaced ? "Namespaced" : "Cluster",
        singularResource: resource.singularName,
        verbs: [...resource.verbs],
        ...(resource.shortNames === undefined ? {} : { shortNames: [...resource.shortNames] }),
        ...(resource.categories === undefined ? {} : { categories: [...resource.categories] }),
        ...(parts.length === 0
          ? {}
          : {
              subresources: parts.map((part) => ({
                subresource: part.name.slice(resource.name.length + 1),
                responseKind: kindOf(part),
                verbs: [...part.verbs],
              })),
            }),
      };
    });
}
