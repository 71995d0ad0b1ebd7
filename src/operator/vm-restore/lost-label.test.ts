import { expect, test } from "@jest/globals";
import { LABELS } from "../../api/group.ts";
import { CLAIMS, INSTANCES, STATEFUL_SETS, VIRTUAL_MACHINES, VM_RESTORES } from "../kinds.ts";
import { reasonIs, relocation, settle } from "./testing/course.ts";
import { phaseIs, play, restoreIn } from "./testing/run.ts";
import { OWN, TENANT, World } from "./testing/world.ts";

// A machine that was replaced by a manifest from elsewhere bears no label of its restore any more, and has its disks where it had them.

const WAITING = relocation({ cutover: {} });

function takeLabelOff(world: World, runStrategy = "Halted"): void {
  world.cluster.change(VIRTUAL_MACHINES, TENANT, "orders-db", (machine) => {
    delete machine.metadata.labels;
    machine.spec = { ...machine.spec, runStrategy };
  });
}

function putLabelBack(world: World): void {
  const uid = restoreIn(world)?.metadata.uid ?? "";
  world.cluster.change(VIRTUAL_MACHINES, TENANT, "orders-db", (machine) => {
    machine.metadata.labels = { [LABELS.restoreUid]: uid };
  });
}

const overlays = ({ cluster }: World) =>
  cluster.all(CLAIMS).filter(({ metadata }) => metadata.namespace === OWN && metadata.name.endsWith("-overlay"));

test("a machine that is off and lost its label keeps the overlay when the restore is deleted", async () => {
  const world = new World();
  world.restore(WAITING);
  await play(world, reasonIs("CutOver", "AwaitingApproval"));
  takeLabelOff(world);
  await settle(world);
  expect(world.cluster.all(INSTANCES)).toEqual([]);
  world.cluster.erase(VM_RESTORES, TENANT, "orders-db");
  const kept = await settle(world, 30);
  expect(overlays(world)).toHaveLength(1);
  expect(world.cluster.all(STATEFUL_SETS)).toHaveLength(1);
  expect(kept?.status?.message).toMatch(/lost the label that says so/);
  world.cluster.erase(VIRTUAL_MACHINES, TENANT, "orders-db");
  await play(world, (restore) => restore === undefined);
  expect(overlays(world)).toEqual([]);
});

test("a machine that lost its label is told of as what it is, and goes on with the label put back", async () => {
  const world = new World();
  world.restore(WAITING);
  await play(world, reasonIs("CutOver", "AwaitingApproval"));
  takeLabelOff(world, "Always");
  const told = await play(world, reasonIs("VirtualMachineCreated", "LabelLost"), 30);
  expect(told?.status?.message).toMatch(new RegExp(`${LABELS.restoreUid}=${told?.metadata.uid}`));
  putLabelBack(world);
  world.cluster.change(VM_RESTORES, TENANT, "orders-db", (restore) => {
    restore.spec = { ...(restore.spec as object), ...relocation() };
  });
  await play(world, phaseIs("Completed"));
});

test("a machine that lost its label on its trial is not committed for that, nor said to be deleted", async () => {
  const world = new World();
  world.restore(relocation({ trial: { period: "1m", onExpiry: "Commit" } }));
  await play(world, reasonIs("Committed", "OnTrial"));
  takeLabelOff(world, "Always");
  const waiting = await settle(world, 90);
  expect(waiting?.status?.phase).toBe("OnTrial");
  expect(waiting?.status?.message).toMatch(/lost the label that says so/);
  expect(overlays(world)).toHaveLength(1);
  putLabelBack(world);
  await play(world, phaseIs("Completed"));
});

test("a machine that lost its label is not left without its disks when the restore is discarded", async () => {
  const world = new World();
  world.restore({ ...WAITING, deletionPolicy: "Discard" });
  await play(world, reasonIs("CutOver", "AwaitingApproval"));
  takeLabelOff(world);
  world.cluster.erase(VM_RESTORES, TENANT, "orders-db");
  await settle(world, 30);
  expect(overlays(world)).toHaveLength(1);
  putLabelBack(world);
  await play(world, (restore) => restore === undefined);
  expect(world.cluster.all(VIRTUAL_MACHINES)).toEqual([]);
});
