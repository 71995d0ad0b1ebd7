import { expect, test } from "@jest/globals";
import { conditionOf } from "../conditions.ts";
import { BACKUP_REPOSITORIES, CLAIMS, STORAGE_CLASSES, VIRTUAL_MACHINES, VM_RESTORES } from "../kinds.ts";
import type { FakeCluster } from "../runtime/testing/fake-cluster.ts";
import { phaseIs, play } from "./testing/run.ts";
import { DISK_SIZE, manifest, TENANT, World } from "./testing/world.ts";

const SPEC = {
  source: { repository: { name: "nightly" }, snapshot: { latest: {} } },
  virtualMachine: { name: "orders-db" },
  relocation: { target: { storageClassName: "fast" }, cutover: { when: "Automatic" } },
};

function mendSpec(cluster: FakeCluster): void {
  cluster.change(VM_RESTORES, TENANT, "orders-db", (restore) => {
    restore.spec = SPEC;
  });
}

function setRepository(cluster: FakeCluster, status: string, message: string): void {
  cluster.change(BACKUP_REPOSITORIES, TENANT, "nightly", (repository) => {
    repository.status = {
      conditions: [
        { type: "Ready", status: status as "True", reason: "X", message, lastTransitionTime: "2026-01-01T00:00:00Z" },
      ],
    };
  });
}

const foreignClaim = (name: string) => ({
  apiVersion: "v1",
  kind: "PersistentVolumeClaim",
  metadata: { name, namespace: TENANT },
  spec: {},
});
const found = new World().found;

interface Case {
  readonly name: string;
  readonly reason: string;
  /** A piece of the sentence that says what to do. */
  readonly advice: RegExp;
  readonly spec?: object;
  readonly spoil?: (world: World) => void;
  readonly mend: (world: World) => void;
}

const cases: Case[] = [
  {
    name: "a repository that is not there",
    reason: "RepositoryNotFound",
    advice: /Create it, or correct spec\.source\.repository\.name/,
    spec: { source: { ...SPEC.source, repository: { name: "nigthly" } } },
    mend: ({ cluster }) => mendSpec(cluster),
  },
  {
    name: "a repository that cannot be reached, or a wrong password",
    reason: "RepositoryNotReady",
    advice: /the password is wrong/,
    spoil: ({ cluster }) => setRepository(cluster, "False", "the password is wrong"),
    mend: ({ cluster }) => setRepository(cluster, "True", ""),
  },
  {
    name: "an unknown snapshot",
    reason: "SnapshotNotFound",
    advice: /Choose another one/,
    spoil: (world) => {
      world.found = {
        error: { code: "SNAPSHOT_NOT_FOUND", message: "there is no such snapshot", hint: "choose another one" },
      };
    },
    mend: (world) => {
      world.found = found;
    },
  },
  {
    name: "a snapshot without a disk",
    reason: "NoDisks",
    advice: /spec\.source\.disks/,
    spoil: (world) => {
      world.found = {
        snapshot: { id: "a".repeat(64), time: "2026-01-01T00:00:00Z", host: "h", disks: [], dataBytes: 0 },
      };
    },
    mend: (world) => {
      world.found = found;
      world.cluster.change(VM_RESTORES, TENANT, "orders-db", (restore) => {
        restore.spec = { ...SPEC, source: { ...SPEC.source, disks: [{ name: "root", path: "/disks/root.img" }] } };
      });
    },
  },
  {
    name: "a target class that is missing",
    reason: "StorageClassNotFound",
    advice: /Create it, or correct spec\.relocation\.target/,
    spec: { relocation: { ...SPEC.relocation, target: { storageClassName: "faster" } } },
    mend: ({ cluster }) =>
      cluster.put(STORAGE_CLASSES, {
        apiVersion: "storage.k8s.io/v1",
        kind: "StorageClass",
        metadata: { name: "faster" },
        provisioner: "p",
      }),
  },
  {
    name: "a node-local overlay that nobody allowed",
    reason: "NodeLocalOverlay",
    advice: /allowNodeLocalOverlay: true/,
    spoil: ({ cluster }) =>
      cluster.change(STORAGE_CLASSES, undefined, "fast", (storageClass) => {
        storageClass.provisioner = "rancher.io/local-path";
      }),
    mend: ({ cluster }) =>
      cluster.change(VM_RESTORES, TENANT, "orders-db", (restore) => {
        restore.spec = { ...SPEC, mediaAgent: { allowNodeLocalOverlay: true } };
      }),
  },
  {
    name: "a name taken by another machine",
    reason: "VirtualMachineExists",
    advice: /choose another/,
    spoil: ({ cluster }) =>
      cluster.put(VIRTUAL_MACHINES, { ...manifest(), metadata: { name: "orders-db", namespace: TENANT } }),
    mend: ({ cluster }) => cluster.erase(VIRTUAL_MACHINES, TENANT, "orders-db"),
  },
  {
    name: "a claim name that is taken",
    reason: "ClaimExists",
    advice: /claimName/,
    spoil: ({ cluster }) => cluster.put(CLAIMS, foreignClaim("orders-db-root")),
    mend: ({ cluster }) =>
      cluster.change(VM_RESTORES, TENANT, "orders-db", (restore) => {
        const target = { storageClassName: "fast", perDisk: [{ name: "root", claimName: "orders-db-new" }] };
        restore.spec = { ...SPEC, relocation: { ...SPEC.relocation, target } };
      }),
  },
  {
    name: "a cache too small",
    reason: "CacheTooSmall",
    advice: /256Mi at least/,
    spec: { mediaAgent: { cache: { size: "1Mi" } } },
    mend: ({ cluster }) => mendSpec(cluster),
  },
  {
    name: "an overlay too small",
    reason: "OverlayTooSmall",
    advice: /at least/,
    spec: { mediaAgent: { overlay: { size: "1Mi" } } },
    mend: ({ cluster }) => mendSpec(cluster),
  },
  {
    name: "a target smaller than the disk",
    reason: "TargetTooSmall",
    advice: /at least, or leave it out/,
    spec: {
      relocation: {
        ...SPEC.relocation,
        target: { storageClassName: "fast", perDisk: [{ name: "root", size: String(DISK_SIZE) }] },
      },
    },
    mend: ({ cluster }) => mendSpec(cluster),
  },
  {
    name: "a disk that the backup does not hold",
    reason: "DiskNotFound",
    advice: /It holds root/,
    spec: { relocation: { ...SPEC.relocation, target: { perDisk: [{ name: "data" }] } } },
    mend: ({ cluster }) => mendSpec(cluster),
  },
  {
    name: "a strategy of a later version",
    reason: "StrategyNotSupported",
    advice: /Set spec\.relocation\.strategy to Copy/,
    spec: { relocation: { ...SPEC.relocation, strategy: "LiveMigration" } },
    mend: ({ cluster }) => mendSpec(cluster),
  },
  {
    name: "a spec that contradicts itself",
    reason: "InvalidSpec",
    advice: /exactly one of/,
    spec: { source: { ...SPEC.source, snapshot: {} } },
    mend: ({ cluster }) => mendSpec(cluster),
  },
];

test.each(cases)(
  "$name: a condition says what to do, nothing is made, and it recovers",
  async ({ reason, advice, spec, spoil, mend }) => {
    const world = new World();
    world.restore({ ...SPEC, ...spec });
    spoil?.(world);
    const foreign = world.cluster.keys();
    const refused = await play(
      world,
      (restore) => restore?.status?.conditions?.some((condition) => condition.reason === reason) ?? false,
      40,
    );
    const condition = refused?.status?.conditions?.find((candidate) => candidate.reason === reason);
    expect(condition?.status).toBe("False");
    expect(condition?.message).toMatch(advice);
    expect(refused?.status?.message).toBe(condition?.message);
    expect(refused?.status?.phase).toBe("Pending");

    await play(world, () => false, 10).catch(() => undefined);
    const made = world.cluster
      .keys()
      .filter((key) => !foreign.includes(key) && !/^(Event|Job|Pod|VirtualMachineInstance)\//.test(key));
    expect(made).toEqual([]);
    const written = world.cluster.writes.filter(({ type }) => !["Event", "Job", "VMRestore"].includes(type.kind));
    expect(written).toEqual([]);

    mend(world);
    const completed = await play(world, phaseIs("Completed"));
    expect(
      completed?.status?.conditions?.filter(({ status, type }) => status === "False" && type !== "Degraded"),
    ).toEqual([]);
  },
);

test("a snapshot without a manifest waits for one, and takes it inline", async () => {
  const world = new World();
  const connect = world.connect;
  world.connect = () => ({ ...connect(), manifest: async () => undefined });
  world.restore();
  const refused = await play(
    world,
    (restore) => conditionOf(restore?.status?.conditions, "VirtualMachineCreated")?.reason === "NoManifest",
  );
  expect(refused?.status?.message).toMatch(/from: Inline/);
  world.cluster.change(VM_RESTORES, TENANT, "orders-db", (restore) => {
    restore.spec = {
      ...SPEC,
      virtualMachine: { name: "orders-db", manifest: { from: "Inline", template: manifest() } },
    };
  });
  await play(world, phaseIs("Completed"));
});
