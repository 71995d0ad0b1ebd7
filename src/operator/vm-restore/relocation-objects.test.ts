import { expect, test } from "@jest/globals";
import { parseQuantity } from "../../api/quantity.ts";
import { CLAIMS, JOBS, STORAGE_CLASSES, VIRTUAL_MACHINES } from "../kinds.ts";
import { DISK_SIZE } from "./testing/backed-up.ts";
import { phaseIs, play } from "./testing/run.ts";
import { TENANT, World } from "./testing/world.ts";

const MIB = 2 ** 20;

/** A machine with four disks, each with a target of its own. */
async function relocating(): Promise<World> {
  const world = new World();
  world.backUp("root", "data", "logs", "swap");
  const perDisk = [
    { name: "data", volumeMode: "Block", storageClassName: "block", accessMode: "ReadWriteMany" },
    { name: "logs", claimName: "archive", size: "1Gi" },
    { name: "swap", volumeMode: "Block" },
  ];
  world.cluster.put(STORAGE_CLASSES, {
    ...{ apiVersion: "storage.k8s.io/v1", kind: "StorageClass", metadata: { name: "block" } },
    provisioner: "example.org/replicated",
  });
  world.restore({ relocation: { target: { storageClassName: "fast", perDisk }, cutover: { when: "Automatic" } } });
  await play(world, () => world.cluster.all(JOBS).some(({ metadata }) => metadata.name.endsWith("-copy")));
  return world;
}

const claimOf = (world: World, name: string) => world.cluster.peek(CLAIMS, TENANT, name);
const bytesOf = (world: World, name: string) =>
  parseQuantity(claimOf(world, name)?.spec?.resources?.requests?.storage ?? "") ?? 0;

test("each disk goes where the spec says for it, else where it says for all", async () => {
  const world = await relocating();
  expect(claimOf(world, "orders-db-root")?.spec).toMatchObject({
    storageClassName: "fast",
    volumeMode: "Filesystem",
    accessModes: ["ReadWriteOnce"],
  });
  expect(claimOf(world, "orders-db-data")?.spec).toMatchObject({
    storageClassName: "block",
    volumeMode: "Block",
    accessModes: ["ReadWriteMany"],
  });
  expect(claimOf(world, "archive")?.metadata.labels).toMatchObject({ "vmrestore.io/disk": "logs" });
  expect(claimOf(world, "orders-db-logs")).toBeUndefined();
});

test("a filesystem target has room for its overhead, a block target is the disk, and a size that is given counts", async () => {
  const world = await relocating();
  // What KubeVirt takes off: 5.5 percent, and a mebibyte.
  expect((bytesOf(world, "orders-db-root") - MIB) * (1 - 0.055)).toBeGreaterThanOrEqual(DISK_SIZE);
  expect(bytesOf(world, "orders-db-data")).toBe(DISK_SIZE);
  expect(bytesOf(world, "orders-db-swap")).toBe(DISK_SIZE);
  expect(bytesOf(world, "archive")).toBe(2 ** 30);
});

test("a pod of the Job that is ending is not replaced before it has ended: two would write to one target", async () => {
  const world = await relocating();
  const [job] = world.cluster.all(JOBS).filter(({ metadata }) => metadata.name.endsWith("-copy"));
  expect(job).toMatchObject({ spec: { podReplacementPolicy: "Failed" } });
});

test("one Job copies to all of them, to a device or to a file system as each is", async () => {
  const world = await relocating();
  const job = world.cluster.all(JOBS).find(({ metadata }) => metadata.name.endsWith("-copy")) as unknown as {
    spec: {
      template: {
        spec: { containers: { args: string[]; volumeMounts: object[]; volumeDevices: object[] }[]; volumes: object[] };
      };
    };
  };
  const { containers, volumes } = job.spec.template.spec;
  const args = containers[0]?.args ?? [];
  const targets = args.filter((_, index) => args[index - 1] === "--disk");
  expect(targets).toEqual(["root=/target/0", "data=/dev/target-1", "logs=/target/2", "swap=/dev/target-3"]);
  expect(containers[0]?.volumeDevices).toEqual([
    { name: "target-1", devicePath: "/dev/target-1" },
    { name: "target-3", devicePath: "/dev/target-3" },
  ]);
  expect(containers[0]?.volumeMounts).toEqual(
    expect.arrayContaining([
      { name: "target-0", mountPath: "/target/0" },
      { name: "target-2", mountPath: "/target/2" },
    ]),
  );
  const claims = ["orders-db-root", "orders-db-data", "archive", "orders-db-swap"];
  for (const [index, claimName] of claims.entries())
    expect(volumes).toContainEqual({ name: `target-${index}`, persistentVolumeClaim: { claimName } });
  await play(world, phaseIs("Completed"));
  expect(JSON.stringify(world.cluster.all(VIRTUAL_MACHINES))).toContain('"claimName":"archive"');
});
