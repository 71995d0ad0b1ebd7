import type { BackupRepository } from "../api/backup-repository.ts";
import { API_VERSION } from "../api/group.ts";
import type { VMProfile } from "../api/vm-profile.ts";
import type { VMRestore } from "../api/vm-restore.ts";
import type { KubernetesObject, ResourceType } from "./runtime/objects.ts";
import type { NodeTerms, Taint, Toleration } from "./runtime/placement.ts";

// The kinds that the controllers read, with the fields that they read. Whatever is optional in the API is optional here.

interface ContainerState {
  waiting?: { reason?: string; message?: string };
  terminated?: { exitCode: number; reason?: string; message?: string };
}

interface ContainerStatus {
  name: string;
  restartCount?: number;
  state?: ContainerState;
  lastState?: ContainerState;
}

export interface Pod extends KubernetesObject {
  kind: "Pod";
  spec?: { nodeName?: string; volumes?: { name: string; persistentVolumeClaim?: { claimName: string } }[] };
  status?: {
    phase?: string;
    conditions?: { type: string; status: string; reason?: string; message?: string }[];
    initContainerStatuses?: ContainerStatus[];
    containerStatuses?: ContainerStatus[];
  };
}

export interface Job extends KubernetesObject {
  kind: "Job";
  status?: {
    succeeded?: number;
    failed?: number;
    active?: number;
    conditions?: { type: string; status: string; reason?: string; message?: string; lastTransitionTime?: string }[];
  };
}

export interface Secret extends KubernetesObject {
  kind: "Secret";
  /** Base64. */
  data?: Record<string, string>;
}

export interface Service extends KubernetesObject {
  kind: "Service";
  spec?: { clusterIP?: string; ports?: { port: number }[] };
}

export interface StatefulSet extends KubernetesObject {
  kind: "StatefulSet";
  status?: { readyReplicas?: number };
}

export interface Claim extends KubernetesObject {
  kind: "PersistentVolumeClaim";
  spec?: {
    volumeName?: string;
    storageClassName?: string;
    volumeMode?: string;
    resources?: { requests?: { storage?: string } };
  };
  status?: { phase?: string };
}

export interface Volume extends KubernetesObject {
  kind: "PersistentVolume";
  spec?: {
    capacity?: { storage?: string };
    accessModes?: string[];
    mountOptions?: string[];
    nodeAffinity?: { required?: NodeTerms };
    claimRef?: { namespace?: string; name?: string; uid?: string };
    nfs?: { server: string; path: string; readOnly?: boolean };
    hostPath?: object;
    local?: object;
    [field: string]: unknown;
  };
  status?: { phase?: string };
}

export interface StorageClass extends KubernetesObject {
  kind: "StorageClass";
  provisioner?: string;
}

export interface Namespace extends KubernetesObject {
  kind: "Namespace";
}

export interface ResourceQuota extends KubernetesObject {
  kind: "ResourceQuota";
  spec?: { hard?: Record<string, string>; scopes?: string[]; scopeSelector?: object };
  status?: { hard?: Record<string, string>; used?: Record<string, string> };
}

export interface VirtualMachineVolume {
  name: string;
  persistentVolumeClaim?: { claimName: string };
  [field: string]: unknown;
}

/** A disk of a machine's domain: one of `disk`, `cdrom` and `lun` says what it is. */
export interface DiskDevice {
  name: string;
  shareable?: boolean;
  disk?: { bus?: string };
  lun?: { bus?: string };
}

interface Domain {
  devices?: { disks?: DiskDevice[]; [field: string]: unknown };
  [field: string]: unknown;
}

export interface VirtualMachine extends KubernetesObject {
  kind: "VirtualMachine";
  spec?: {
    runStrategy?: string;
    running?: boolean;
    updateVolumesStrategy?: string;
    template?: {
      spec?: {
        domain?: Domain;
        volumes?: VirtualMachineVolume[];
        nodeSelector?: Record<string, string>;
        tolerations?: Toleration[];
        affinity?: { nodeAffinity?: { requiredDuringSchedulingIgnoredDuringExecution?: NodeTerms } };
        [field: string]: unknown;
      };
      [field: string]: unknown;
    };
    [field: string]: unknown;
  };
  status?: { conditions?: KubeVirtCondition[] };
}

interface KubeVirtCondition {
  type: string;
  status: string;
  reason?: string;
  message?: string;
}

export interface VirtualMachineInstance extends KubernetesObject {
  kind: "VirtualMachineInstance";
  spec?: { domain?: Domain; volumes?: VirtualMachineVolume[] };
  status?: {
    phase?: string;
    nodeName?: string;
    conditions?: KubeVirtCondition[];
    volumeStatus?: { name: string; persistentVolumeClaimInfo?: { claimName?: string; accessModes?: string[] } }[];
    /** While volumes are copied to other claims by a live migration. */
    migratedVolumes?: { volumeName: string }[];
    migrationState?: {
      migrationUid?: string;
      targetPod?: string;
      /** Set once the guest runs in the target pod, whatever becomes of the migration then. */
      targetNodeDomainReadyTimestamp?: string;
      completed?: boolean;
      failed?: boolean;
      failureReason?: string;
    };
    interfaces?: { name?: string; mac?: string }[];
  };
}

export interface Migration extends KubernetesObject {
  kind: "VirtualMachineInstanceMigration";
  spec?: { vmiName?: string };
  status?: { phase?: string; migrationState?: { failureReason?: string } };
}

export interface Node extends KubernetesObject {
  kind: "Node";
  spec?: { unschedulable?: boolean; taints?: Taint[] };
  status?: { conditions?: { type: string; status: string }[]; nodeInfo?: { bootID?: string } };
}

export interface DisruptionBudget extends KubernetesObject {
  kind: "PodDisruptionBudget";
}

/** KubeVirt's own resource: how it is set up. */
export interface KubeVirt extends KubernetesObject {
  kind: "KubeVirt";
  spec?: {
    configuration?: {
      vmRolloutStrategy?: string;
      developerConfiguration?: { featureGates?: string[] };
      migrations?: { completionTimeoutPerGiB?: number; bandwidthPerMigration?: string; allowPostCopy?: boolean };
    };
    workloadUpdateStrategy?: { workloadUpdateMethods?: string[] };
  };
  status?: { phase?: string; observedKubeVirtVersion?: string };
}

function core<T extends KubernetesObject>(kind: T["kind"], plural: string, namespaced = true): ResourceType<T> {
  return { apiVersion: "v1", kind, plural, namespaced };
}

export const PODS = core<Pod>("Pod", "pods");
export const SECRETS = core<Secret>("Secret", "secrets");
export const CONFIG_MAPS = core<KubernetesObject>("ConfigMap", "configmaps");
export const SERVICES = core<Service>("Service", "services");
export const CLAIMS = core<Claim>("PersistentVolumeClaim", "persistentvolumeclaims");
export const VOLUMES = core<Volume>("PersistentVolume", "persistentvolumes", false);
export const NAMESPACES = core<Namespace>("Namespace", "namespaces", false);
export const RESOURCE_QUOTAS = core<ResourceQuota>("ResourceQuota", "resourcequotas");
export const JOBS: ResourceType<Job> = { apiVersion: "batch/v1", kind: "Job", plural: "jobs", namespaced: true };
export const STATEFUL_SETS: ResourceType<StatefulSet> = {
  apiVersion: "apps/v1",
  kind: "StatefulSet",
  plural: "statefulsets",
  namespaced: true,
};
export const DISRUPTION_BUDGETS: ResourceType<DisruptionBudget> = {
  apiVersion: "policy/v1",
  kind: "PodDisruptionBudget",
  plural: "poddisruptionbudgets",
  namespaced: true,
};
export const CONTROLLER_REVISIONS: ResourceType = {
  apiVersion: "apps/v1",
  kind: "ControllerRevision",
  plural: "controllerrevisions",
  namespaced: true,
};
export const STORAGE_CLASSES: ResourceType<StorageClass> = {
  apiVersion: "storage.k8s.io/v1",
  kind: "StorageClass",
  plural: "storageclasses",
  namespaced: false,
};
export const VIRTUAL_MACHINES: ResourceType<VirtualMachine> = {
  apiVersion: "kubevirt.io/v1",
  kind: "VirtualMachine",
  plural: "virtualmachines",
  namespaced: true,
};
export const INSTANCES: ResourceType<VirtualMachineInstance> = {
  apiVersion: "kubevirt.io/v1",
  kind: "VirtualMachineInstance",
  plural: "virtualmachineinstances",
  namespaced: true,
};
/** Of Multus. */
export const NETWORK_ATTACHMENTS: ResourceType = {
  apiVersion: "k8s.cni.cncf.io/v1",
  kind: "NetworkAttachmentDefinition",
  plural: "network-attachment-definitions",
  namespaced: true,
};
export const MIGRATIONS: ResourceType<Migration> = {
  apiVersion: "kubevirt.io/v1",
  kind: "VirtualMachineInstanceMigration",
  plural: "virtualmachineinstancemigrations",
  namespaced: true,
};
export const KUBEVIRTS: ResourceType<KubeVirt> = {
  apiVersion: "kubevirt.io/v1",
  kind: "KubeVirt",
  plural: "kubevirts",
  namespaced: true,
};
export const NODES = core<Node>("Node", "nodes", false);
export const VM_RESTORES: ResourceType<VMRestore> = {
  apiVersion: API_VERSION,
  kind: "VMRestore",
  plural: "vmrestores",
  namespaced: true,
};
export const BACKUP_REPOSITORIES: ResourceType<BackupRepository> = {
  apiVersion: API_VERSION,
  kind: "BackupRepository",
  plural: "backuprepositories",
  namespaced: true,
};
export const VM_PROFILES: ResourceType<VMProfile> = {
  apiVersion: API_VERSION,
  kind: "VMProfile",
  plural: "vmprofiles",
  namespaced: true,
};
