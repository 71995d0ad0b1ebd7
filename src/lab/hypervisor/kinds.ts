import type { ResourceType } from "../../operator/runtime/objects.ts";
import type { LabObject } from "../controllers/kinds.ts";

/** KubeVirt's kinds (kubevirt.io/v1), as far as the lab's hypervisor looks at them. */

export interface Condition {
  type: string;
  status: "True" | "False";
  reason?: string;
  message?: string;
  lastTransitionTime?: string | null;
}

export interface Disk {
  name: string;
  disk?: { bus?: string; readonly?: boolean };
  shareable?: boolean;
  cdrom?: { bus?: string };
  lun?: object;
  floppy?: object;
  bootOrder?: number;
  serial?: string;
  cache?: string;
  errorPolicy?: string;
}

export interface Interface {
  name: string;
  model?: string;
  macAddress?: string;
  masquerade?: object;
  bridge?: object;
  ports?: { port: number; protocol?: string }[];
}

export interface Volume {
  name: string;
  persistentVolumeClaim?: { claimName: string; readOnly?: boolean };
  dataVolume?: { name: string };
  [source: string]: unknown;
}

export interface InstanceSpec {
  terminationGracePeriodSeconds?: number;
  domain?: {
    machine?: { type?: string };
    cpu?: { cores?: number; sockets?: number; threads?: number };
    memory?: { guest?: string };
    resources?: { requests?: { memory?: string; cpu?: string }; limits?: { memory?: string } };
    firmware?: {
      uuid?: string;
      serial?: string;
      bootloader?: { efi?: object; bios?: object };
      [field: string]: unknown;
    };
    devices?: {
      disks?: Disk[];
      interfaces?: Interface[];
      rng?: object;
      autoattachPodInterface?: boolean;
      [field: string]: unknown;
    };
    [field: string]: unknown;
  };
  networks?: { name: string; pod?: object; multus?: object }[];
  volumes?: Volume[];
  [field: string]: unknown;
}

export interface VirtualMachine extends LabObject {
  kind: "VirtualMachine";
  spec: {
    runStrategy?: string;
    running?: boolean;
    template: {
      metadata?: { labels?: Record<string, string>; annotations?: Record<string, string> };
      spec: InstanceSpec;
    };
    /** What a change of the volumes' claims means: `Replacement` at the next start, or `Migration` of the running machine. */
    updateVolumesStrategy?: string;
    [field: string]: unknown;
  };
  status?: {
    printableStatus?: string;
    created?: boolean;
    ready?: boolean;
    conditions?: Condition[];
    volumeUpdateState?: { volumeMigrationState?: { migratedVolumes: MigratedVolume[] } };
  };
}

export interface ClaimInfo {
  claimName: string;
  accessModes?: string[];
  volumeMode?: string;
  capacity?: object;
  requests?: object;
}

export interface MigratedVolume {
  volumeName: string;
  sourcePVCInfo: ClaimInfo;
  destinationPVCInfo: ClaimInfo;
}

/** RFC 3339 times. */
export interface MigrationState {
  migrationUid?: string;
  sourceNode?: string;
  sourcePod?: string;
  targetNode?: string;
  targetPod?: string;
  targetNodeAddress?: string;
  startTimestamp?: string;
  endTimestamp?: string;
  targetNodeDomainDetected?: boolean;
  targetNodeDomainReadyTimestamp?: string;
  mode?: string;
  abortRequested?: boolean;
  abortStatus?: string;
  completed?: boolean;
  failed?: boolean;
  failureReason?: string;
}

export type InstancePhase = "Pending" | "Scheduling" | "Scheduled" | "Running" | "Succeeded" | "Failed";

export interface InstanceStatus {
  phase?: InstancePhase;
  reason?: string;
  nodeName?: string;
  conditions?: Condition[];
  phaseTransitionTimestamps?: { phase: InstancePhase; phaseTransitionTimestamp: string }[];
  interfaces?: { name: string; mac?: string; ipAddress?: string; [field: string]: unknown }[];
  migratedVolumes?: MigratedVolume[] | undefined;
  migrationState?: MigrationState | undefined;
  [field: string]: unknown;
}

export interface VirtualMachineInstance extends LabObject {
  kind: "VirtualMachineInstance";
  spec: InstanceSpec;
  status?: InstanceStatus;
}

export type MigrationPhase =
  | "Pending"
  | "Scheduling"
  | "Scheduled"
  | "PreparingTarget"
  | "TargetReady"
  | "Running"
  | "Succeeded"
  | "Failed";

export interface Migration extends LabObject {
  kind: "VirtualMachineInstanceMigration";
  spec: { vmiName: string };
  status?: {
    phase?: MigrationPhase;
    phaseTransitionTimestamps?: { phase: MigrationPhase; phaseTransitionTimestamp: string }[];
    conditions?: Condition[];
    migrationState?: MigrationState;
  };
}

const API_VERSION = "kubevirt.io/v1";

export const VIRTUAL_MACHINES: ResourceType<VirtualMachine> = {
  ...{ apiVersion: API_VERSION, kind: "VirtualMachine", plural: "virtualmachines", namespaced: true },
};
export const INSTANCES: ResourceType<VirtualMachineInstance> = {
  ...{ apiVersion: API_VERSION, kind: "VirtualMachineInstance", plural: "virtualmachineinstances", namespaced: true },
};
export const MIGRATIONS: ResourceType<Migration> = {
  ...{ apiVersion: API_VERSION, kind: "VirtualMachineInstanceMigration", namespaced: true },
  plural: "virtualmachineinstancemigrations",
};

export function isOver({ status }: Migration): boolean {
  return status?.phase === "Succeeded" || status?.phase === "Failed";
}

export function claimNameOf(volume: Volume): string | undefined {
  return volume.persistentVolumeClaim?.claimName ?? volume.dataVolume?.name;
}

export function hasCondition(object: { status?: { conditions?: Condition[] } } | undefined, type: string): boolean {
  return (object?.status?.conditions ?? []).some((condition) => condition.type === type && condition.status === "True");
}
