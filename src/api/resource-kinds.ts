import { backupRepositorySpec, backupRepositoryStatus } from "./backup-repository.ts";
import type { ResourceKind } from "./custom-resource-definition.ts";
import { vmProfileSpec } from "./vm-profile.ts";
import { IMMUTABLE_ONCE_PREPARED, vmRestoreSpec } from "./vm-restore.ts";
import { vmRestoreStatus } from "./vm-restore-status.ts";

const AGE = { name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp" } as const;

/** Every custom resource, as `crds/` holds it. */
export const RESOURCE_KINDS: readonly ResourceKind[] = [
  {
    kind: "VMRestore",
    plural: "vmrestores",
    shortNames: ["vmr"],
    description:
      "Brings one virtual machine back from its backup: it boots from there, and its disks relocate meanwhile.",
    spec: vmRestoreSpec,
    status: vmRestoreStatus,
    columns: [
      { name: "Phase", type: "string", jsonPath: ".status.phase" },
      { name: "VM", type: "string", jsonPath: ".spec.virtualMachine.name" },
      { name: "Progress", type: "integer", jsonPath: ".status.relocation.percent", description: "Percent relocated" },
      { name: "Ready in", type: "string", jsonPath: ".status.timeToGuestReady" },
      AGE,
      { name: "Message", type: "string", jsonPath: ".status.message", priority: 1 },
      { name: "Waiting", type: "date", jsonPath: ".status.waiting.since", description: "For how long", priority: 1 },
      { name: "Snapshot", type: "string", jsonPath: ".status.snapshot.id", priority: 1 },
    ],
    rules: [
      ...IMMUTABLE_ONCE_PREPARED.map((field) => ({
        rule: `!has(self.status) || !has(self.status.mediaAgent) || self.spec.${field} == oldSelf.spec.${field}`,
        message: `spec.${field} cannot be changed once the media agent was made: delete this VMRestore and make another`,
      })),
      {
        rule: "!has(self.status) || !has(self.status.conditions) || !self.status.conditions.exists(condition, condition.type == 'VirtualMachineCreated' && condition.status == 'True') || self.spec.virtualMachine == oldSelf.spec.virtualMachine",
        message: "spec.virtualMachine cannot be changed once the machine was made: change the VirtualMachine itself",
      },
      {
        rule: "!has(self.status) || !has(self.status.mediaAgent) || (has(self.spec.replace) == has(oldSelf.spec.replace) && (!has(self.spec.replace) || (self.spec.replace.confirmUid == oldSelf.spec.replace.confirmUid && (self.spec.replace.undo || !oldSelf.spec.replace.undo))))",
        message:
          "spec.replace cannot be changed once the media agent was made, but for undo, which can only be set: delete this VMRestore and make another",
      },
      {
        rule: "!has(self.status) || !has(self.status.mediaAgent) || !self.spec.dryRun || oldSelf.spec.dryRun",
        message: "spec.dryRun cannot be set once the media agent was made",
      },
    ],
  },
  {
    kind: "BackupRepository",
    plural: "backuprepositories",
    shortNames: ["brepo"],
    description: "A restic repository that machines of this namespace can be restored from.",
    spec: backupRepositorySpec,
    status: backupRepositoryStatus,
    columns: [
      { name: "Ready", type: "string", jsonPath: '.status.conditions[?(@.type=="Ready")].status' },
      { name: "Reason", type: "string", jsonPath: '.status.conditions[?(@.type=="Ready")].reason' },
      { name: "Snapshots", type: "integer", jsonPath: ".status.snapshots" },
      { name: "Latest", type: "date", jsonPath: ".status.latestSnapshotTime" },
      AGE,
      { name: "Message", type: "string", jsonPath: '.status.conditions[?(@.type=="Ready")].message', priority: 1 },
    ],
  },
  {
    kind: "VMProfile",
    plural: "vmprofiles",
    shortNames: ["vmprof"],
    description: "What was learned from a machine's boots, so that the next restore stages it before it is asked for.",
    spec: vmProfileSpec,
    columns: [{ name: "Boots", type: "integer", jsonPath: ".spec.boots" }, AGE],
  },
];
