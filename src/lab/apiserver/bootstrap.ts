import type { Cluster, WriteOptions } from "./operations/context.ts";
import { createObject } from "./operations/creator.ts";

const NAMESPACES = ["default", "kube-node-lease", "kube-public", "kube-system"];

/** What a cluster has from the beginning. Does nothing to what is there already. */
export function bootstrapObjects(cluster: Cluster): void {
  const options: WriteOptions = {
    manager: "kube-apiserver",
    dryRun: false,
    fieldValidation: "Strict",
    subresource: "",
    warn: () => {},
  };
  const namespaces = cluster.registry.find("", "namespaces");
  if (namespaces === undefined) return;
  for (const name of NAMESPACES) {
    if (cluster.store.get(namespaces.storageKey, "", name) !== undefined) continue;
    const body = { apiVersion: "v1", kind: "Namespace", metadata: { name } };
    createObject(cluster, namespaces, "v1", "", body, options);
  }
}
