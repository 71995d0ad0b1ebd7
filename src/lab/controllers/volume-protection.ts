import type { ResourceType } from "../../operator/runtime/objects.ts";
import { resourcePath } from "../../operator/runtime/objects.ts";
import { type LabObject, PODS, type Pod, VOLUME_CLAIMS, VOLUMES } from "./kinds.ts";
import { type LabContext, ownKey, runLabController } from "./lab-controller.ts";

const CLAIM_FINALIZER = "kubernetes.io/pvc-protection";
const VOLUME_FINALIZER = "kubernetes.io/pv-protection";

/** Lets a claim go only when no pod uses it, and a volume only when no claim is bound to it. */
export async function runVolumeProtection(context: LabContext, signal: AbortSignal): Promise<void> {
  const claims = {
    name: "claim-protection",
    watches: [
      { type: VOLUME_CLAIMS, keys: ownKey },
      { type: PODS, keys: (object: LabObject) => claimKeys(object as Pod) },
    ],
    reconcile: (namespace: string, name: string) => releaseClaim(context, namespace, name),
  };
  const volumes = {
    name: "volume-protection",
    watches: [{ type: VOLUMES, keys: ownKey }],
    reconcile: (_namespace: string, name: string) => releaseVolume(context, name),
  };
  await Promise.all([runLabController(claims, context, signal), runLabController(volumes, context, signal)]);
}

function claimNames(pod: Pod): string[] {
  return (pod.spec?.volumes ?? []).flatMap(({ persistentVolumeClaim }) => {
    const name = (persistentVolumeClaim as { claimName?: string } | undefined)?.claimName;
    return name === undefined ? [] : [name];
  });
}

function claimKeys(pod: Pod): string[] {
  return claimNames(pod).map((name) => `${pod.metadata.namespace ?? ""}/${name}`);
}

/** A pod that has a node uses its claims until it is gone, also when it has ended. */
export function usesClaim(pod: Pod, claim: string): boolean {
  return pod.spec?.nodeName !== undefined && claimNames(pod).includes(claim);
}

async function releaseClaim(context: LabContext, namespace: string, name: string): Promise<undefined> {
  const claim = await context.cluster.get(VOLUME_CLAIMS, namespace, name);
  if (!isHeldBy(claim, CLAIM_FINALIZER)) return;
  const pods = await context.cluster.list(PODS, namespace);
  if (!pods.some((pod) => usesClaim(pod, name))) await release(context, VOLUME_CLAIMS, claim, CLAIM_FINALIZER);
}

async function releaseVolume(context: LabContext, name: string): Promise<undefined> {
  const volume = await context.cluster.get(VOLUMES, undefined, name);
  if (!isHeldBy(volume, VOLUME_FINALIZER)) return;
  if (volume.status?.phase !== "Bound") await release(context, VOLUMES, volume, VOLUME_FINALIZER);
}

function isHeldBy<T extends LabObject>(object: T | undefined, finalizer: string): object is T {
  const { deletionTimestamp, finalizers = [] } = object?.metadata ?? {};
  return deletionTimestamp !== undefined && finalizers.includes(finalizer);
}

async function release(
  { transport }: LabContext,
  type: ResourceType,
  { metadata }: LabObject,
  finalizer: string,
): Promise<void> {
  const finalizers = (metadata.finalizers ?? []).filter((name) => name !== finalizer);
  const { uid, resourceVersion } = metadata;
  await transport.request({
    method: "PATCH",
    path: resourcePath(type, metadata.namespace, metadata.name),
    contentType: "application/merge-patch+json",
    body: { metadata: { uid, resourceVersion, finalizers: finalizers.length === 0 ? null : finalizers } },
  });
}
