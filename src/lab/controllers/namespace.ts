import { type KubernetesObject, type ResourceType, resourcePath } from "../../operator/runtime/objects.ts";
import { discoverTypes } from "./discovery.ts";
import type { LabObject } from "./kinds.ts";
import { type LabContext, runLabController } from "./lab-controller.ts";

interface Namespace extends LabObject {
  spec?: { finalizers?: string[] };
}

const NAMESPACES: ResourceType<Namespace> = {
  apiVersion: "v1",
  kind: "Namespace",
  plural: "namespaces",
  namespaced: false,
};
const FINALIZER = "kubernetes";
const RETRY_MS = 250;

/** Empties namespaces that are being deleted, and lets them go when nothing is left in them. */
export function runNamespaceController(context: LabContext, signal: AbortSignal): Promise<void> {
  const reconcile = (_namespace: string, name: string) => reconcileNamespace(context, name);
  const watches = [{ type: NAMESPACES, keys: (object: LabObject) => [`/${object.metadata.name}`] }];
  return runLabController({ name: "namespace", watches, reconcile }, context, signal);
}

async function reconcileNamespace(context: LabContext, name: string): Promise<number | undefined> {
  const namespace = await context.cluster.get(NAMESPACES, undefined, name);
  if (namespace?.metadata.deletionTimestamp === undefined) return undefined;
  const finalizers = namespace.spec?.finalizers ?? [];
  if (!finalizers.includes(FINALIZER)) return undefined;
  const types = await discoverTypes(context, ["list", "deletecollection"]);
  let left = 0;
  for (const type of types.filter(({ namespaced }) => namespaced)) left += await empty(context, type, name);
  if (left > 0) return RETRY_MS;
  await context.transport.request({
    method: "PUT",
    path: `${resourcePath(NAMESPACES, undefined, name)}/finalize`,
    body: { ...namespace, spec: { ...namespace.spec, finalizers: finalizers.filter((item) => item !== FINALIZER) } },
  });
  return undefined;
}

/** @returns how many are still there: they wait for finalizers, or for the node */
async function empty({ cluster, transport }: LabContext, type: ResourceType, namespace: string): Promise<number> {
  if ((await cluster.list<KubernetesObject>(type, namespace)).length === 0) return 0;
  const body = { apiVersion: "v1", kind: "DeleteOptions", propagationPolicy: "Background" };
  await transport.request({ method: "DELETE", path: resourcePath(type, namespace), body });
  return (await cluster.list<KubernetesObject>(type, namespace)).length;
}
