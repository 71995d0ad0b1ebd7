import { resourcePath } from "../../operator/runtime/objects.ts";
import type { LabContext } from "../controllers/lab-controller.ts";
import type { InstancePhase } from "./kinds.ts";
import { LAUNCHER_PODS, type LauncherPod, launcherStatus } from "./launcher-pod.ts";

/** Writes a launcher pod's status, from the phase of its instance, where it does not say that already. */
export async function writeLauncher(
  { cluster, clock }: LabContext,
  pod: LauncherPod,
  phase: InstancePhase,
  podIP: string,
): Promise<void> {
  const status = launcherStatus(pod, phase, podIP, clock.now());
  if (pod.status?.phase === (status as { phase: string }).phase && pod.status.podIP === podIP) return;
  const { name, namespace = "" } = pod.metadata;
  await cluster.applyStatus(LAUNCHER_PODS, {
    ...{ apiVersion: "v1", kind: "Pod", metadata: { name, namespace }, status },
  });
}

/** What the node does when a pod's processes have ended: only a deletion without grace removes the object. */
export async function deleteLauncher({ transport }: LabContext, { metadata }: LauncherPod): Promise<void> {
  const body = {
    apiVersion: "v1",
    kind: "DeleteOptions",
    gracePeriodSeconds: 0,
    preconditions: { uid: metadata.uid },
  };
  const path = resourcePath(LAUNCHER_PODS, metadata.namespace, metadata.name);
  await transport.request({ method: "DELETE", path, body }).catch((error: unknown) => {
    const { status } = error as { status?: number };
    if (status !== 404 && status !== 409) throw error;
  });
}

/** What the scheduler does. */
export async function bindLauncher({ transport }: LabContext, { metadata }: LauncherPod, node: string): Promise<void> {
  const { name, namespace } = metadata;
  const target = { apiVersion: "v1", kind: "Node", name: node };
  const body = { apiVersion: "v1", kind: "Binding", metadata: { name, namespace }, target };
  await transport.request({ method: "POST", path: `${resourcePath(LAUNCHER_PODS, namespace, name)}/binding`, body });
}
