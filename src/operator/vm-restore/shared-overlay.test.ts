import { expect, test } from "@jest/globals";
import { conditionOf } from "../conditions.ts";
import { STORAGE_CLASSES } from "../kinds.ts";
import { EVENTS } from "../runtime/event-recorder.ts";
import { changeSpec } from "./testing/course.ts";
import { phaseIs, play } from "./testing/run.ts";
import { World } from "./testing/world.ts";

// Two agents on two nodes could write to an overlay on a shared file system, if a pod is deleted by force on a node that is cut off.

function provision(world: World, provisioner: string, name = "fast"): void {
  world.cluster.put(STORAGE_CLASSES, {
    apiVersion: "storage.k8s.io/v1",
    kind: "StorageClass",
    metadata: { name },
    provisioner,
  });
}

const warnings = (world: World) =>
  world.cluster
    .all(EVENTS)
    .filter((event) => (event as { reason?: string }).reason === "SharedFileSystem")
    .map((event) => (event as { type?: string }).type);

test.each([
  "nfs.csi.k8s.io",
  "cephfs.csi.ceph.com",
  "rook-ceph.cephfs.csi.ceph.com",
  "efs.csi.aws.com",
  "file.csi.azure.com",
  "smb.csi.k8s.io",
  "filestore.csi.storage.gke.io",
  "cluster.local/backups-nfs-subdir-external-provisioner",
])("an overlay of %s is warned of, and the restore goes on to its end", async (provisioner) => {
  const world = new World();
  provision(world, provisioner);
  world.restore();
  const restore = await play(world, phaseIs("Completed"));
  const told = conditionOf(restore?.status?.conditions, "OverlayFenced");
  expect(told).toMatchObject({ status: "False", reason: "SharedFileSystem" });
  expect(told?.message).toContain(`StorageClass fast (${provisioner})`);
  // A warning that nobody waits for hides nothing that is.
  expect(restore?.status?.message).not.toBe(told?.message);
  expect(warnings(world)).toEqual(["Warning"]);
});

test.each(["example.org/replicated", "rbd.csi.ceph.com", "rook-ceph.rbd.csi.ceph.com", "notefs.csi.aws.com"])(
  "an overlay of %s is not",
  async (provisioner) => {
    const world = new World();
    provision(world, provisioner);
    world.restore();
    const restore = await play(world, phaseIs("Completed"));
    expect(conditionOf(restore?.status?.conditions, "OverlayFenced")).toBeUndefined();
  },
);

test("it is told in a dry run, and no longer once the overlay is to lie elsewhere", async () => {
  const world = new World();
  provision(world, "nfs.csi.k8s.io", "shared");
  world.restore({ dryRun: true, mediaAgent: { overlay: { storageClassName: "shared" } } });
  const isTold = (status: string) => (restore: Parameters<Parameters<typeof play>[1]>[0]) =>
    conditionOf(restore?.status?.conditions, "OverlayFenced")?.status === status;
  await play(world, isTold("False"));
  changeSpec(world, { mediaAgent: { overlay: { storageClassName: "fast" } } });
  const restore = await play(world, isTold("True"));
  expect(conditionOf(restore?.status?.conditions, "OverlayFenced")?.reason).toBe("NotShared");
});
