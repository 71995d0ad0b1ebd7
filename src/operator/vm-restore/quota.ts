import { formatQuantity, parseQuantity } from "../../api/quantity.ts";
import type { ResourceQuota } from "../kinds.ts";
import type { PlannedObject } from "./planned-objects.ts";

/** Kinds that quotas also count under their plain names. */
const PLAIN = new Set(["persistentvolumeclaims", "secrets", "services"]);

/**
 * What a ResourceQuota's `status.used` grows by when these objects are made, by the quota's own names: `count/<resource>.<group>`,
 * `requests.storage`, `<class>.storageclass.storage.k8s.io/…`.
 */
export function demandOf(objects: readonly PlannedObject[]): Map<string, number> {
  const demand = new Map<string, number>();
  const add = (name: string, amount: number): void => {
    demand.set(name, (demand.get(name) ?? 0) + amount);
  };
  for (const { type, bytes = 0, storageClassName = "", pods = 0 } of objects) {
    const group = type.apiVersion.includes("/") ? `.${type.apiVersion.split("/")[0]}` : "";
    add(`count/${type.plural}${group}`, 1);
    if (PLAIN.has(type.plural)) add(type.plural, 1);
    if (pods > 0) {
      add("pods", pods);
      add("count/pods", pods);
    }
    if (type.plural !== "persistentvolumeclaims") continue;
    add("requests.storage", bytes);
    if (storageClassName === "") continue;
    add(`${storageClassName}.storageclass.storage.k8s.io/requests.storage`, bytes);
    add(`${storageClassName}.storageclass.storage.k8s.io/persistentvolumeclaims`, 1);
  }
  return demand;
}

/**
 * Why one of a namespace's quotas refuses these objects, in words; undefined where none does. Quotas with scopes count only some
 * pods, so they are left to the API server; and so are amounts that are no whole number of bytes or objects.
 */
export function quotaProblem(quotas: readonly ResourceQuota[], objects: readonly PlannedObject[]): string | undefined {
  const demand = demandOf(objects);
  for (const { metadata, spec, status } of quotas) {
    if ((spec?.scopes ?? []).length > 0 || spec?.scopeSelector !== undefined) continue;
    const hard = status?.hard ?? spec?.hard ?? {};
    for (const [name, most] of Object.entries(hard)) {
      const wanted = demand.get(name);
      const limit = parseQuantity(most);
      const used = parseQuantity(status?.used?.[name] ?? "0");
      if (wanted === undefined || limit === undefined || used === undefined || used + wanted <= limit) continue;
      const amount = (value: number) => (name.endsWith("storage") ? formatQuantity(value) : String(value));
      return `ResourceQuota ${metadata.name} of namespace ${metadata.namespace} allows ${amount(limit)} of ${name}. ${amount(used)} are used, and this restore needs ${amount(wanted)}. Raise the quota, or free some of it.`;
    }
  }
  return undefined;
}
