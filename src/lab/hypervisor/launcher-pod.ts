import { randomBytes } from "node:crypto";
import type { ResourceType } from "../../operator/runtime/objects.ts";
import type { LabObject } from "../controllers/kinds.ts";
import { controllerReference } from "../controllers/lab-controller.ts";
import {
  type Condition,
  claimNameOf,
  type InstancePhase,
  type Migration,
  type VirtualMachineInstance,
} from "./kinds.ts";

/** The pod that KubeVirt runs QEMU in. In the lab it is an object only; its process is QEMU. */
export interface LauncherPod extends LabObject {
  spec?: { nodeName?: string; terminationGracePeriodSeconds?: number; [field: string]: unknown };
  status?: { phase?: string; podIP?: string; startTime?: string };
}

export const LAUNCHER_PODS: ResourceType<LauncherPod> = {
  ...{ apiVersion: "v1", kind: "Pod", plural: "pods", namespaced: true },
};
const CONTAINER = "compute";
const IMAGE = "lab.vmrestore.io/qemu";
/** What a launcher has beyond the guest's own time to end. */
const GRACE_MARGIN_SECONDS = 15;
const DEFAULT_GRACE_SECONDS = 30;

/** On the launcher that a migration goes to: the migration's uid. */
export const MIGRATION_LABEL = "kubevirt.io/migrationJobUID";

export const LAUNCHER_SELECTOR = "kubevirt.io=virt-launcher";

export function graceSeconds({ spec }: VirtualMachineInstance): number {
  return spec.terminationGracePeriodSeconds ?? DEFAULT_GRACE_SECONDS;
}

/** The key of the instance that a launcher pod belongs to. */
export function instanceKeys({ metadata }: LabObject): string[] {
  const name =
    metadata.labels?.["kubevirt.io"] === "virt-launcher" ? metadata.labels["vm.kubevirt.io/name"] : undefined;
  return name === undefined ? [] : [`${metadata.namespace ?? ""}/${name}`];
}

/** @param placement on a node; or, for a migration, on whichever it is put later */
export function launcherPod(
  instance: VirtualMachineInstance,
  placement: { readonly nodeName: string } | { readonly migration: Migration },
): LabObject & Record<string, unknown> {
  const { name, namespace = "", uid = "", labels } = instance.metadata;
  const migration = "migration" in placement ? placement.migration : undefined;
  const claims = (instance.spec.volumes ?? []).flatMap((volume) => {
    const claimName = claimNameOf(volume);
    return claimName === undefined ? [] : [{ name: volume.name, persistentVolumeClaim: { claimName } }];
  });
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name: `virt-launcher-${name.slice(0, 200)}-${randomBytes(3).toString("hex").slice(0, 5)}`,
      namespace,
      labels: {
        ...labels,
        ...{ "kubevirt.io": "virt-launcher", "kubevirt.io/created-by": uid, "vm.kubevirt.io/name": name.slice(0, 63) },
        ...(migration === undefined ? {} : { [MIGRATION_LABEL]: migration.metadata.uid ?? "" }),
      },
      annotations: {
        "kubevirt.io/domain": name,
        ...(migration === undefined ? {} : { "kubevirt.io/migrationJobName": migration.metadata.name }),
      },
      ownerReferences: [controllerReference(instance) as never],
    },
    spec: {
      ...("nodeName" in placement ? { nodeName: placement.nodeName } : { affinity: apartFrom(uid) }),
      ...{ restartPolicy: "Never", containers: [{ name: CONTAINER, image: IMAGE }], volumes: claims },
      terminationGracePeriodSeconds: graceSeconds(instance) + GRACE_MARGIN_SECONDS,
    },
  };
}

/** Where no other launcher of the instance is. */
function apartFrom(uid: string): object {
  const term = {
    labelSelector: { matchLabels: { "kubevirt.io/created-by": uid } },
    topologyKey: "kubernetes.io/hostname",
  };
  return { podAntiAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [term] } };
}

/** The status of a launcher pod, from the phase of its instance. */
export function launcherStatus(pod: LauncherPod, phase: InstancePhase, podIP: string, now: number): object {
  const at = new Date(now).toISOString().replace(/\.\d+/, "");
  const startTime = pod.status?.startTime ?? at;
  const isOver = phase === "Succeeded" || phase === "Failed";
  const isRunning = phase === "Running" || phase === "Scheduled";
  const ready: Condition["status"] = isRunning ? "True" : "False";
  const terminated = { exitCode: phase === "Failed" ? 1 : 0, reason: phase === "Failed" ? "Error" : "Completed" };
  const waiting = { reason: "ContainerCreating" };
  return {
    phase: isOver ? phase : isRunning ? "Running" : "Pending",
    ...{ podIP, podIPs: [{ ip: podIP }], hostIP: "127.0.0.1", startTime },
    conditions: ["PodScheduled", "Initialized", "ContainersReady", "Ready"].map((type) => ({
      ...{ type, status: type === "PodScheduled" || type === "Initialized" ? "True" : ready },
      lastTransitionTime: startTime,
    })),
    containerStatuses: [
      {
        ...{ name: CONTAINER, image: IMAGE, imageID: "", ready: isRunning, started: isRunning, restartCount: 0 },
        state: isOver
          ? { terminated: { ...terminated, startedAt: startTime, finishedAt: at } }
          : isRunning
            ? { running: { startedAt: startTime } }
            : { waiting },
      },
    ],
  };
}
