import { expect, test } from "@jest/globals";
import { agentConfig } from "../../api/agent-config.ts";
import { alsoReads } from "../../api/group.ts";
import { vmRestoreSpec } from "../../api/vm-restore.ts";
import { conditionOf } from "../conditions.ts";
import { BACKUP_REPOSITORIES, JOBS, type Job, SECRETS, STATEFUL_SETS, VM_RESTORES } from "../kinds.ts";
import { sourcesOf } from "./sources.ts";
import { DISK_SIZE, manifest } from "./testing/backed-up.ts";
import { phaseIs, play, restoreIn } from "./testing/run.ts";
import { OWN, TENANT, World } from "./testing/world.ts";

const latest = (host: string) => ({ latest: { host } });
const INLINE = { name: "orders-db", manifest: { from: "Inline", template: manifest(["root", "data"]) } };
const DISKS = [
  { name: "root", path: "/disk.img" },
  { name: "data", path: "/disk.img", repository: { name: "data" } },
];
const SOURCE = { repository: { name: "nightly" }, snapshot: latest("volsync"), disks: DISKS };

function sourcesFor(source: object, virtualMachine: object = INLINE) {
  return sourcesOf(vmRestoreSpec.parse({ source: { ...SOURCE, ...source }, virtualMachine }), TENANT);
}

test("each repository and snapshot is looked into once, with the disks that come from it", () => {
  const disks = [
    ...DISKS,
    { name: "logs", path: "/logs.img" },
    { name: "old", path: "/o.img", snapshot: { id: "abcdef01" } },
  ];
  expect(
    sourcesFor({ disks }).map(({ repository, request }) => [
      repository.name,
      request.snapshot,
      request.disks?.map(({ name }) => name),
    ]),
  ).toEqual([
    ["nightly", latest("volsync"), ["root", "logs"]],
    ["data", latest("volsync"), ["data"]],
    ["nightly", { id: "abcdef01" }, ["old"]],
  ]);
});

test("the default snapshot is looked into first for its manifest, or not at all where nobody needs it", () => {
  const only = { disks: [DISKS[1]] };
  const names = (sources: ReturnType<typeof sourcesFor>) => sources.map(({ repository }) => repository.name);
  expect(names(sourcesFor(only))).toEqual(["data"]);
  expect(names(sourcesFor(only, { name: "orders-db" }))).toEqual(["nightly", "data"]);
});

test("an id is one repository's: a disk from another one has to name its own snapshot", () => {
  const withId = (disk: object) =>
    vmRestoreSpec.safeParse({
      source: { ...SOURCE, snapshot: { id: "abcdef01" }, disks: [{ ...DISKS[1], ...disk }] },
      virtualMachine: INLINE,
    });
  expect(withId({}).success).toBe(false);
  expect(withId({ snapshot: { latest: {} } }).success).toBe(true);
});

function twoRepositories(): World {
  const world = new World();
  world.backUp("root", "data");
  const found = world.found.snapshot;
  if (found === undefined) throw new Error("nothing was found");
  const disk = (name: string) => ({ name, path: "/disk.img", format: "raw" as const, size: DISK_SIZE });
  const { virtualMachine: _, ...bare } = found;
  world.found = { snapshot: { ...bare, host: "volsync", disks: [disk("root")] } };
  world.foundElsewhere = [{ snapshot: { ...bare, id: "b".repeat(64), host: "volsync", disks: [disk("data")] } }];
  const nightly = world.cluster.peek(BACKUP_REPOSITORIES, TENANT, "nightly");
  world.cluster.put(BACKUP_REPOSITORIES, {
    ...nightly,
    metadata: { name: "data", namespace: TENANT },
    spec: { rest: { url: "http://backup/data" }, credentialsSecretRef: { name: "password" } },
  });
  return world;
}

const uidOf = (world: World, name: string) => world.cluster.peek(BACKUP_REPOSITORIES, TENANT, name)?.metadata.uid ?? "";

test("disks of two repositories are served by one agent, and both repositories know that they are read", async () => {
  const world = twoRepositories();
  world.restore({ source: SOURCE, virtualMachine: INLINE });
  await play(world, phaseIs("Staging"));
  const plan = world.cluster.all(SECRETS).find(({ data }) => data?.["plan.json"] !== undefined);
  const config = agentConfig.parse(JSON.parse(Buffer.from(plan?.data?.["config.json"] ?? "", "base64").toString()));
  expect(config).toMatchObject({
    repository: { local: {} },
    otherRepositories: [{ rest: { url: "http://backup/data" } }],
    otherSnapshots: [{ id: "b".repeat(64), repository: 1 }],
    disks: [{ name: "root" }, { name: "data", snapshot: 1 }],
  });
  expect(plan?.metadata.labels).toMatchObject({
    "vmrestore.io/repository-uid": uidOf(world, "nightly"),
    [alsoReads(uidOf(world, "data"))]: "",
  });
  const pod = JSON.stringify(world.cluster.all(STATEFUL_SETS)[0]);
  expect(pod).toContain('"--other-repository-password-file","1=/etc/vmrestore/repository-1/password"');
  expect(pod).toContain(`"secretName":"repository-${uidOf(world, "data")}"`);
  await play(world, phaseIs("Completed"));
  expect(restoreIn(world)?.status?.disks).toMatchObject([
    { name: "root", path: "/disk.img" },
    { name: "data", path: "/disk.img", snapshot: "b".repeat(64) },
  ]);
  expect(world.cluster.all(JOBS)).toEqual([]);
});

test("two snapshots of one repository need one way to reach it", async () => {
  const world = twoRepositories();
  const disks = [DISKS[0], { ...DISKS[1], repository: undefined, snapshot: latest("k8up") }];
  world.restore({ source: { ...SOURCE, disks }, virtualMachine: INLINE });
  await play(world, () => world.cluster.all(STATEFUL_SETS).length > 0);
  const [set] = world.cluster.all(STATEFUL_SETS);
  expect(JSON.stringify(set)).not.toContain("--other-repository");
  const plan = world.cluster.all(SECRETS).find(({ data }) => data?.["plan.json"] !== undefined);
  const config = JSON.parse(Buffer.from(plan?.data?.["config.json"] ?? "", "base64").toString()) as object;
  expect(config).toMatchObject({ otherSnapshots: [{ repository: 0 }] });
});

test("what is wrong with one of several repositories is told with its name, and mended by itself", async () => {
  const world = twoRepositories();
  const good = world.foundElsewhere;
  world.foundElsewhere = [{ error: { code: "SNAPSHOT_NOT_FOUND", message: "there is no such snapshot" } }];
  world.restore({ source: SOURCE, virtualMachine: INLINE });
  const told = () => conditionOf(restoreIn(world)?.status?.conditions, "SourceReady");
  await play(world, () => told()?.reason === "SnapshotNotFound");
  expect(told()?.message).toBe("BackupRepository data: There is no such snapshot.");
  expect(world.cluster.all(STATEFUL_SETS)).toEqual([]);
  world.foundElsewhere = good;
  await play(world, phaseIs("Completed"));
  expect(told()?.message).toMatch(/^Snapshot aaaaaaaa of host volsync.*Snapshot bbbbbbbb of host volsync/);
});

test("an inspection that nobody needs any more goes, and nothing is left of a restore that never began", async () => {
  const world = twoRepositories();
  world.foundElsewhere = [{ error: { code: "SNAPSHOT_NOT_FOUND", message: "there is no such snapshot" } }];
  world.restore({ source: SOURCE, virtualMachine: INLINE });
  const inspections = () => world.cluster.all<Job>(JOBS).filter(({ metadata }) => metadata.namespace === OWN).length;
  await play(world, () => inspections() === 2);
  world.found = { error: { code: "SNAPSHOT_NOT_FOUND", message: "there is no such snapshot" } };
  world.cluster.change(VM_RESTORES, TENANT, "orders-db", (restore) => {
    restore.spec = { ...(restore.spec as object), source: { ...SOURCE, disks: undefined } };
  });
  await play(world, () => inspections() === 1);
  world.cluster.erase(VM_RESTORES, TENANT, "orders-db");
  await play(world, (restore) => restore === undefined);
  expect(inspections()).toBe(0);
});
