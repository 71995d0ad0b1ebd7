import { expect, test } from "@jest/globals";
import type { VolumeClaim } from "../controllers/kinds.ts";
import type { Condition, VirtualMachine, VirtualMachineInstance, Volume } from "./kinds.ts";
import { updateVolumes, volumeUpdateStatus } from "./volume-update.ts";

const volume = (claimName: string, name = "root"): Volume => ({ name, persistentVolumeClaim: { claimName } });
const claim = (name: string): [string, VolumeClaim] => [
  name,
  {
    ...{ apiVersion: "v1", kind: "PersistentVolumeClaim", metadata: { name } },
    spec: { accessModes: ["ReadWriteOnce"] },
  },
];
const CLAIMS = new Map(["old", "new", "third", "data"].map(claim));

function machine(volumes: Volume[], spec: object = {}, conditions: Condition[] = []): VirtualMachine {
  return {
    ...{ apiVersion: "kubevirt.io/v1", kind: "VirtualMachine", metadata: { name: "vm" } },
    spec: { updateVolumesStrategy: "Migration", template: { spec: { volumes } }, ...spec },
    status: { conditions },
  };
}

function instance(volumes: Volume[], status: object = {}, disk: object = {}): VirtualMachineInstance {
  const disks = [{ name: "root", disk: {}, ...disk }];
  return {
    ...{ apiVersion: "kubevirt.io/v1", kind: "VirtualMachineInstance", metadata: { name: "vm" } },
    spec: { volumes, domain: { devices: { disks } } },
    status: { phase: "Running", ...status },
  };
}

const MIGRATED = [
  { volumeName: "root", sourcePVCInfo: { claimName: "old" }, destinationPVCInfo: { claimName: "new" } },
];
const CHANGING: Condition[] = [{ type: "VolumesChange", status: "True" }];

test("an instance takes over claims that it is to be migrated to, and says which", () => {
  const { instance: next, migrated } = updateVolumes(machine([volume("new")]), instance([volume("old")]), CLAIMS);
  expect(next?.spec.volumes).toEqual([volume("new")]);
  expect(next?.status?.migratedVolumes).toEqual(migrated);
  expect(migrated).toMatchObject(MIGRATED);
});

test.each([
  ["nothing changed", machine([volume("old")]), instance([volume("old")])],
  [
    "at the next start only",
    machine([volume("new")], { updateVolumesStrategy: "Replacement" }),
    instance([volume("old")]),
  ],
  ["not running", machine([volume("new")]), undefined],
])("%s: nothing is done", (_, vm, vmi) => {
  expect(updateVolumes(vm, vmi, CLAIMS)).toEqual({});
});

test.each([
  ["a shareable disk", instance([volume("old")], {}, { shareable: true }), /shareable: \[root\]/],
  ["a LUN", instance([volume("old")], {}, { lun: {} }), /luns: \[root\]/],
  [
    "a machine that cannot move",
    instance([volume("old")], {
      conditions: [{ type: "StorageLiveMigratable", status: "False", message: "host device" }],
    }),
    /isn't migratable: host device/,
  ],
  [
    "another volume that stays",
    instance([volume("old"), volume("data", "data")], {
      volumeStatus: [
        { name: "data", persistentVolumeClaimInfo: { claimName: "data", accessModes: ["ReadWriteOnce"] } },
      ],
    }),
    /volume data is RWO and not included/,
  ],
])("%s needs a restart instead", (_, vmi, message) => {
  expect(updateVolumes(machine([volume("new")]), vmi, CLAIMS)).toEqual({ restart: expect.stringMatching(message) });
});

test("a claim that is not there is waited for, and said once", () => {
  const vm = machine([volume("missing")]);
  const { instance: told } = updateVolumes(vm, instance([volume("old")]), CLAIMS);
  expect(told?.status?.conditions).toMatchObject([{ type: "VolumesChange", status: "False" }]);
  expect(told?.spec.volumes).toEqual([volume("old")]);
  expect(updateVolumes(vm, told, CLAIMS).instance).toEqual(told);
  const later = updateVolumes(vm, told, new Map([...CLAIMS, claim("missing")]));
  expect(later.instance?.status?.conditions).toEqual([]);
  expect(later.migrated).toHaveLength(1);
});

test("the old claims call it off, any others are refused", () => {
  const moving = instance([volume("new")], { migratedVolumes: MIGRATED, conditions: CHANGING });
  const { instance: back } = updateVolumes(machine([volume("old")]), moving, CLAIMS);
  expect(back?.spec.volumes).toEqual([volume("old")]);
  expect(back?.status?.migratedVolumes).toBeUndefined();
  expect(back?.status?.conditions).toMatchObject([{ status: "False", reason: "VolumesChangeCancellation" }]);
  expect(updateVolumes(machine([volume("third")]), moving, CLAIMS)).toEqual({
    error: expect.stringContaining("can only be reverted"),
  });
});

test("the machine's status keeps what is migrated until it is set back or the strategy goes, and asks for recovery when the instance ended", () => {
  const status = { volumeUpdateState: { volumeMigrationState: { migratedVolumes: MIGRATED } }, conditions: CHANGING };
  const vm = (claimName: string, spec: object = {}): VirtualMachine => ({
    ...machine([volume(claimName)], spec),
    status,
  });
  const moving = instance([volume("new")], { migratedVolumes: MIGRATED, conditions: CHANGING });
  expect(volumeUpdateStatus(vm("new"), moving, undefined)).toEqual({ migrated: MIGRATED, needsRecovery: false });
  expect(volumeUpdateStatus(vm("new"), undefined, undefined)).toEqual({ migrated: MIGRATED, needsRecovery: true });
  const failed = instance([volume("new")], { phase: "Failed" });
  expect(volumeUpdateStatus(vm("new"), failed, undefined).needsRecovery).toBe(true);
  const none = { migrated: undefined, needsRecovery: false };
  expect(volumeUpdateStatus(vm("old"), undefined, undefined)).toEqual(none);
  expect(volumeUpdateStatus(vm("new", { updateVolumesStrategy: undefined }), undefined, undefined)).toEqual(none);
});
