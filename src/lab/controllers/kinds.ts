import type { KubernetesObject, ResourceType } from "../../operator/runtime/objects.ts";
import type { NodeTerms } from "../../operator/runtime/placement.ts";
import type { LabelSelector } from "../apiserver/selectors/object-selector.ts";

/** The kinds that the lab's controllers act on, as far as they look at them. */

export interface OwnerReference {
  apiVersion: string;
  kind: string;
  name: string;
  uid: string;
  controller?: boolean;
  blockOwnerDeletion?: boolean;
}

export interface LabObject extends KubernetesObject {
  metadata: Omit<KubernetesObject["metadata"], "ownerReferences"> & { ownerReferences?: OwnerReference[] };
}

export interface PodTemplate {
  metadata?: { labels?: Record<string, string>; annotations?: Record<string, string> };
  spec: Record<string, unknown> & { volumes?: { name: string; [source: string]: unknown }[] };
}

export interface Taint {
  key: string;
  value?: string;
  effect: string;
}

export interface Node extends LabObject {
  spec?: { unschedulable?: boolean; taints?: Taint[] };
  status?: { conditions?: { type: string; status: string }[] };
}

export interface DisruptionBudget extends LabObject {
  spec?: { selector?: LabelSelector; minAvailable?: number | string; maxUnavailable?: number | string };
  status?: { disruptedPods?: Record<string, string>; conditions?: Condition[] };
}

interface Condition {
  type: string;
  status: string;
  reason: string;
  message: string;
  lastTransitionTime: string;
  observedGeneration?: number;
}

export interface ContainerStatus {
  name: string;
  ready?: boolean;
  restartCount?: number;
  state?: { terminated?: { exitCode?: number } };
}

export interface Pod extends LabObject {
  spec?: PodTemplate["spec"] & { nodeName?: string };
  status?: {
    phase?: string;
    podIP?: string;
    conditions?: { type: string; status: string }[];
    containerStatuses?: ContainerStatus[];
  };
}

export interface StatefulSet extends LabObject {
  spec: {
    replicas?: number;
    serviceName?: string;
    selector: { matchLabels?: Record<string, string> };
    template: PodTemplate;
    volumeClaimTemplates?: {
      metadata: { name: string; labels?: Record<string, string> };
      spec: Record<string, unknown>;
    }[];
  };
}

export interface Job extends LabObject {
  spec: {
    template: PodTemplate;
    backoffLimit?: number;
    suspend?: boolean;
    ttlSecondsAfterFinished?: number;
    activeDeadlineSeconds?: number;
  };
  status?: { startTime?: string; conditions?: { type: string; status: string; lastTransitionTime?: string }[] };
}

export interface VolumeClaim extends LabObject {
  spec: {
    accessModes?: string[];
    storageClassName?: string;
    volumeName?: string;
    volumeMode?: string;
    resources?: { requests?: { storage?: string } };
  };
  status?: { phase?: string; capacity?: { storage?: string } };
}

export interface Volume extends LabObject {
  spec: {
    capacity: { storage: string };
    accessModes: string[];
    persistentVolumeReclaimPolicy?: string;
    storageClassName?: string;
    volumeMode?: string;
    claimRef?: { apiVersion?: string; kind?: string; namespace: string; name: string; uid?: string };
    nodeAffinity?: { required?: NodeTerms };
    hostPath?: { path: string; type?: string };
    nfs?: { server: string; path: string };
  };
  status?: { phase?: string };
}

export interface StorageClass extends LabObject {
  provisioner: string;
  reclaimPolicy?: string;
  volumeBindingMode?: string;
}

function type<T extends KubernetesObject>(
  apiVersion: string,
  kind: string,
  plural: string,
  namespaced = true,
): ResourceType<T> {
  return { apiVersion, kind, plural, namespaced };
}

export const PODS = type<Pod>("v1", "Pod", "pods");
export const STATEFUL_SETS = type<StatefulSet>("apps/v1", "StatefulSet", "statefulsets");
export const JOBS = type<Job>("batch/v1", "Job", "jobs");
export const VOLUME_CLAIMS = type<VolumeClaim>("v1", "PersistentVolumeClaim", "persistentvolumeclaims");
export const VOLUMES = type<Volume>("v1", "PersistentVolume", "persistentvolumes", false);
export const STORAGE_CLASSES = type<StorageClass>("storage.k8s.io/v1", "StorageClass", "storageclasses", false);
export const NODES = type<Node>("v1", "Node", "nodes", false);
export const DISRUPTION_BUDGETS = type<DisruptionBudget>("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets");
