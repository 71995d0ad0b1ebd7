import { expect, test } from "@jest/globals";
import { conditionOf } from "../conditions.ts";
import { BACKUP_REPOSITORIES, CLAIMS, INSTANCES, STORAGE_CLASSES, VIRTUAL_MACHINES, VM_RESTORES } from "../kinds.ts";
import type { FakeCluster } from "../runtime/testing/fake-cluster.ts";
import { DISK_SIZE, manifest } from "./testing/backed-up.ts";
import { phaseIs, play } from "./testing/run.ts";
import { TENANT, World } from "./testing/world.ts";

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

/** The repository lies in a namespace of its own, which allows others to read it. */
function putElsewhere(cluster: FakeCluster, allowedNamespaces: readonly string[]): void {
  const here = cluster.peek(BACKUP_REPOSITORIES, TENANT, "nightly");
  cluster.put(BACKUP_REPOSITORIES, {
    ...here,
    metadata: { name: "nightly", namespace: "backups" },
    spec: { ...(here?.spec as object), allowedNamespaces },
  });
}

const foreignClaim = (name: string) => ({
  apiVersion: "v1",
  kind: "PersistentVolumeClaim",
  metadata: { name, namespace: TENANT },
  spec: {},
});
const found = new World().found;
/** What `vmrestore inspect` told, until it is mended. */
const inspectionFails = (code: string, message: string, hint: string) => ({
  spoil: (world: World): void => {
    world.found = { error: { code, message, hint } };
  },
  mend: (world: World): void => {
    world.found = found;
  },
});

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
    name: "another namespace's repository that is not there, or allows nobody",
    reason: "RepositoryNotAllowed",
    advice: /default has to be one of its spec\.allowedNamespaces/,
    spec: { source: { ...SPEC.source, repository: { name: "nightly", namespace: "backups" } } },
    spoil: ({ cluster }) => putElsewhere(cluster, ["somebody"]),
    mend: ({ cluster }) => putElsewhere(cluster, ["somebody", TENANT]),
  },
  {
    name: "a repository that cannot be reached, or a wrong password",
    reason: "RepositoryNotReady",
    advice: /the password is wrong/,
    spoil: ({ cluster }) => setRepository(cluster, "False", "the password is wrong"),
    mend: ({ cluster }) => setRepository(cluster, "True", ""),
  },
  {
    name: "a repository that was ready and cannot be reached now",
    reason: "RepositoryNotFound",
    advice: /Check the path/,
    ...inspectionFails("REPOSITORY_NOT_FOUND", "there is no repository", "Check the path, and that it is mounted."),
  },
  {
    name: "a password that was right once",
    reason: "RepositoryWrongPassword",
    advice: /Correct the password/,
    ...inspectionFails(
      "REPOSITORY_WRONG_PASSWORD",
      "no key of the repository opens",
      "Correct the password in the Secret.",
    ),
  },
  {
    name: "an unknown snapshot",
    reason: "SnapshotNotFound",
    advice: /Choose another one/,
    ...inspectionFails("SNAPSHOT_NOT_FOUND", "there is no such snapshot", "choose another one"),
  },
  {
    name: "a disk path that is not in the snapshot",
    reason: "PathNotFound",
    advice: /\/disks holds: root\.img/,
    spec: { source: { ...SPEC.source, disks: [{ name: "root", path: "/disks/rood.img" }] } },
    spoil: inspectionFails("PATH_NOT_FOUND", "no /disks/rood.img in the snapshot", "/disks holds: root.img.").spoil,
    mend: (world) => {
      world.found = found;
      world.cluster.change(VM_RESTORES, TENANT, "orders-db", (restore) => {
        restore.spec = { ...SPEC, source: { ...SPEC.source, disks: [{ name: "root", path: "/disks/root.img" }] } };
      });
    },
  },
  {
    name: "a file that is no whole number of sectors",
    reason: "DiskSizeUnaligned",
    advice: /Give the path of the disk's raw image/,
    ...inspectionFails("DISK_SIZE_UNALIGNED", "4097 bytes", "Give the path of the disk's raw image."),
  },
  {
    name: "a snapshot without a manifest",
    reason: "NoManifest",
    advice: /from: Inline/,
    spoil: (world) => {
      const { virtualMachine: _, ...snapshot } = found.snapshot ?? { virtualMachine: "" };
      world.found = { snapshot: snapshot as NonNullable<typeof found.snapshot> };
    },
    mend: ({ cluster }) =>
      cluster.change(VM_RESTORES, TENANT, "orders-db", (restore) => {
        const virtualMachine = { name: "orders-db", manifest: { from: "Inline", template: manifest() } };
        restore.spec = { ...SPEC, virtualMachine };
      }),
  },
  {
    name: "a disk that the snapshot's manifest has no volume for",
    reason: "ManifestMismatch",
    advice: /Name the disks in spec\.source\.disks as its volumes are named/,
    spec: { source: { ...SPEC.source, disks: [{ name: "system", path: "/disks/root.img" }] } },
    spoil: (world) => {
      world.backUp("system");
      if (world.found.snapshot !== undefined) world.found.snapshot.withoutVolume = ["system"];
    },
    mend: (world) => {
      world.backUp("root");
      delete world.found.snapshot?.withoutVolume;
      world.cluster.change(VM_RESTORES, TENANT, "orders-db", (restore) => {
        restore.spec = { ...SPEC, source: { ...SPEC.source, disks: [{ name: "root", path: "/disks/root.img" }] } };
      });
    },
  },
  {
    name: "an inline manifest that has no such volume",
    reason: "ManifestMismatch",
    advice: /Name the disks in spec\.source\.disks as its volumes are named/,
    spec: { virtualMachine: { name: "orders-db", manifest: { from: "Inline", template: manifest(["system"]) } } },
    mend: ({ cluster }) => mendSpec(cluster),
  },
  {
    name: "an inline manifest that is something else",
    reason: "InvalidManifest",
    advice: /Give one/,
    spec: { virtualMachine: { name: "orders-db", manifest: { from: "Inline", template: { kind: "Pod" } } } },
    mend: ({ cluster }) => mendSpec(cluster),
  },
  {
    name: "a disk whose name no volume can have",
    reason: "InvalidDiskName",
    advice: /Name the disks in spec\.source\.disks/,
    spoil: (world) => world.backUp("../root"),
    mend: (world) => {
      world.backUp("root");
      world.cluster.change(VM_RESTORES, TENANT, "orders-db", (restore) => {
        restore.spec = { ...SPEC, source: { ...SPEC.source, disks: [{ name: "root", path: "/disks/root.img" }] } };
      });
    },
  },
  {
    name: "a snapshot without a disk",
    reason: "NoDisks",
    advice: /spec\.source\.disks/,
    spoil: (world) => {
      world.found = {
        snapshot: {
          id: "a".repeat(64),
          time: "2026-01-01T00:00:00Z",
          host: "h",
          virtualMachine: "orders-db",
          disks: [],
          dataBytes: 0,
        },
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
    name: "a name that a machine without a VirtualMachine has",
    reason: "VirtualMachineExists",
    advice: /Wait until it is gone, delete it, or choose another/,
    spoil: (world) => {
      world.cluster.put(INSTANCES, {
        apiVersion: "kubevirt.io/v1",
        kind: "VirtualMachineInstance",
        metadata: { name: "orders-db", namespace: TENANT, finalizers: ["example.org/stays"] },
        spec: {},
      });
    },
    mend: ({ cluster }) => {
      cluster.change(INSTANCES, TENANT, "orders-db", ({ metadata }) => {
        delete metadata.finalizers;
      });
      cluster.erase(INSTANCES, TENANT, "orders-db");
    },
  },
  {
    name: "a target that is the claim which the agent serves",
    reason: "ClaimNameTaken",
    advice: /Set another claimName/,
    spec: {
      relocation: {
        ...SPEC.relocation,
        target: { storageClassName: "fast", perDisk: [{ name: "root", claimName: "orders-db-root-restoring" }] },
      },
    },
    mend: ({ cluster }) => mendSpec(cluster),
  },
  {
    name: "one target for two disks",
    reason: "ClaimNameTaken",
    advice: /Disks root and data have the same target claim .* Set another claimName/,
    spec: {
      relocation: {
        ...SPEC.relocation,
        target: { storageClassName: "fast", perDisk: [{ name: "data", claimName: "orders-db-root" }] },
      },
    },
    spoil: (world) => world.backUp("root", "data"),
    mend: ({ cluster }) => mendSpec(cluster),
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
      completed?.status?.conditions?.filter(
        ({ status, type }) => status === "False" && !["Degraded", "LiveMigrationPossible"].includes(type),
      ),
    ).toEqual([]);
  },
);

test("a manifest that the agent cannot give is waited for, and taken inline", async () => {
  const world = new World();
  const connect = world.connect;
  world.connect = (options) => ({ ...connect(options), manifest: async () => undefined });
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
