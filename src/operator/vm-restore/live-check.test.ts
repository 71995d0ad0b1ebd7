import { expect, test } from "@jest/globals";
import { liveProblems, tooSlow } from "./live-check.ts";
import type { Observed } from "./observed.ts";

const GIB = 2 ** 30;
const LABELS = { "vmrestore.io/restore-uid": "uid" };
const node = (name: string, change: object = {}) => ({
  metadata: {
    name,
    labels: { "kubevirt.io/schedulable": "true", ...("labels" in change ? (change.labels as object) : {}) },
  },
  spec: {},
  status: { conditions: [{ type: "Ready", status: "True" }] },
  ...("spec" in change || "status" in change ? change : {}),
});
const kubevirt = (spec: object = {}, status: object = {}) => ({
  spec: { workloadUpdateStrategy: { workloadUpdateMethods: ["LiveMigrate"] }, ...spec },
  status: { phase: "Deployed", observedKubeVirtVersion: "v1.9.0", ...status },
});

interface Parts {
  kubevirts?: object[];
  nodes?: object[];
  machine?: object;
  template?: object;
  instance?: object;
  disks?: object[];
  rate?: number;
  dataBytes?: number;
}

/** What is looked at of a machine that can be migrated, with some of it changed. */
function seen({ kubevirts = [kubevirt()], nodes = [node("a"), node("b")], ...parts }: Parts = {}): Observed {
  const disks = [{ name: "root", disk: {}, ...(parts.disks?.[0] ?? {}) }];
  return {
    ...{ kubevirts, nodes, restore: { metadata: { uid: "uid" } } },
    disks: [{ name: "root", size: 10 * GIB }],
    machine: {
      metadata: { labels: LABELS },
      spec: { template: { spec: { domain: { memory: { guest: "2Gi" } }, ...parts.template } } },
      ...parts.machine,
    },
    instance: {
      metadata: {},
      spec: { domain: { devices: { disks } } },
      status: { phase: "Running", nodeName: "a", ...parts.instance },
    },
    agent: { status: { repository: parts.rate === undefined ? {} : { bytesPerSecond: parts.rate } } },
    plan: { dataBytes: parts.dataBytes },
  } as unknown as Observed;
}

test("nothing stands in the way where everything is as KubeVirt asks for", () => {
  expect(liveProblems(seen())).toEqual([]);
  expect(liveProblems(seen({ kubevirts: [kubevirt({}, { observedKubeVirtVersion: "devel" })] }))).toEqual([]);
  const state = { name: "persistent-state-for-vm", persistentVolumeClaimInfo: { accessModes: ["ReadWriteOnce"] } };
  expect(liveProblems(seen({ instance: { volumeStatus: [state] } }))).toEqual([]);
});

test.each<[string, Parts, RegExp]>([
  ["KubeVirtNotFound", { kubevirts: [] }, /no KubeVirt resource/],
  ["KubeVirtNotDeployed", { kubevirts: [kubevirt({}, { phase: "Deploying" })] }, /is Deploying/],
  ["WorkloadUpdateMethod", { kubevirts: [kubevirt({ workloadUpdateStrategy: {} })] }, /lacks LiveMigrate/],
  ["RolloutStrategy", { kubevirts: [kubevirt({ configuration: { vmRolloutStrategy: "Stage" } })] }, /is Stage/],
  [
    "FeatureGates",
    {
      kubevirts: [
        kubevirt({ configuration: { vmRolloutStrategy: "LiveUpdate" } }, { observedKubeVirtVersion: "v1.4.1" }),
      ],
    },
    /VolumesUpdateStrategy and VolumeMigration/,
  ],
  ["PostCopy", { kubevirts: [kubevirt({ configuration: { migrations: { allowPostCopy: true } } })] }, /post-copy/],
  ["NoOtherNode", { nodes: [node("a")] }, /no second node/],
  [
    "NoOtherNode",
    { nodes: [node("a"), node("b", { status: { conditions: [{ type: "Ready", status: "Unknown" }] } })] },
    /no second/,
  ],
  ["NoOtherNode", { nodes: [node("a"), node("b", { labels: { "kubevirt.io/schedulable": "false" } })] }, /no second/],
  ["NoOtherNode", { template: { nodeSelector: { disk: "fast" } } }, /node selector/],
  ["NotRunning", { instance: { phase: "Scheduling" } }, /not running/],
  [
    "NotMigratable",
    {
      instance: { conditions: [{ type: "StorageLiveMigratable", status: "False", message: "HostDevice: it has one" }] },
    },
    /HostDevice: it has one/,
  ],
  [
    "RestartRequired",
    { machine: { status: { conditions: [{ type: "RestartRequired", status: "True" }] } } },
    /restart first/,
  ],
  ["MigrationUnderWay", { instance: { migrationState: { migrationUid: "other" } } }, /another reason/],
  ["DiskNotMigratable", { disks: [{ shareable: true }] }, /disk root is shareable or a LUN/],
  ["DiskNotMigratable", { disks: [{ lun: {} }] }, /disk root is shareable or a LUN/],
  [
    "OtherVolume",
    { instance: { volumeStatus: [{ name: "data", persistentVolumeClaimInfo: { accessModes: ["ReadWriteOnce"] } }] } },
    /volume data is ReadWriteOnce/,
  ],
])("%s is told with what it is about", (reason, parts, message) => {
  expect(liveProblems(seen(parts))).toEqual([{ reason, message: expect.stringMatching(message) }]);
});

test("all that stands in the way is told at once", () => {
  const reasons = liveProblems(
    seen({ kubevirts: [kubevirt({ workloadUpdateStrategy: {} }, { phase: "Deploying" })], nodes: [] }),
  );
  expect(reasons.map(({ reason }) => reason)).toEqual(["KubeVirtNotDeployed", "WorkloadUpdateMethod", "NoOtherNode"]);
});

test("KubeVirt's limit is kept: 150 s for each GB of memory and disks begun", () => {
  // 12 GiB are 13 GB: 1,950 s.
  const data = 1950 * 1e6;
  expect(tooSlow(seen({ dataBytes: data }))).toBeUndefined();
  expect(tooSlow(seen({ dataBytes: data, rate: 1e6 }))).toBeUndefined();
  expect(tooSlow(seen({ dataBytes: data, rate: 1e6 - 1 }))).toMatch(/longer than the 1950 s/);
  const migrations = (change: object) => ({ kubevirts: [kubevirt({ configuration: { migrations: change } })] });
  expect(
    tooSlow(seen({ ...migrations({ completionTimeoutPerGiB: 300 }), dataBytes: data, rate: 1e6 / 2 })),
  ).toBeUndefined();
  expect(tooSlow(seen({ ...migrations({ completionTimeoutPerGiB: 0 }), dataBytes: data, rate: 1 }))).toBeUndefined();
  // All bytes cross the network, zeros too.
  expect(tooSlow(seen({ ...migrations({ bandwidthPerMigration: "1Mi" }), dataBytes: 1 }))).toMatch(
    /that KubeVirt allows/,
  );
  expect(tooSlow(seen({ ...migrations({ bandwidthPerMigration: "64Mi" }), dataBytes: 1 }))).toBeUndefined();
});
