import { expect, test } from "@jest/globals";
import type { VMRestore } from "../../api/vm-restore.ts";
import { conditionOf, isTrue } from "../conditions.ts";
import { CLAIMS, INSTANCES, VIRTUAL_MACHINES } from "../kinds.ts";
import { changeSpec, claimOf, reasonIs, relocation, settle } from "./testing/course.ts";
import { phaseIs, play, restoreIn } from "./testing/run.ts";
import { TENANT, World } from "./testing/world.ts";

// What becomes of a restore whose machine KubeVirt does not start, or does not keep running, by itself.

function worldWith(runStrategy: string, spec: object = {}): World {
  const world = new World();
  world.restore({ virtualMachine: { name: "orders-db", runStrategy }, ...spec });
  return world;
}

const machineIn = (world: World) => world.cluster.peek(VIRTUAL_MACHINES, TENANT, "orders-db");
const instanceIn = (world: World) => world.cluster.peek(INSTANCES, TENANT, "orders-db");
const readySays = (restore: VMRestore | undefined) => conditionOf(restore?.status?.conditions, "GuestReady")?.message;

test.each([
  ["Manual", "its run strategy is Manual"],
  ["Halted", "The machine is halted"],
])(
  "a machine that nobody starts (%s) is waited for in words for as long as it takes, and goes on when people start it",
  async (runStrategy, why) => {
    const world = worldWith(runStrategy);
    await play(world, reasonIs("GuestReady", runStrategy === "Manual" ? "NotStarted" : "Halted"));
    const waiting = await settle(world, 700);
    expect(readySays(waiting)).toContain(why);
    expect(waiting?.status?.message).toContain("virtctl start orders-db --namespace default");
    expect(instanceIn(world)).toBeUndefined();
    expect(conditionOf(waiting?.status?.conditions, "InTime")?.status).not.toBe("False");
    expect(world.told).not.toContain("phase BootFailed");
    world.guestReady = false;
    world.start();
    // It has only just begun to boot.
    expect(await settle(world, 30)).toMatchObject({ status: { phase: "Launching" } });
    expect(conditionOf(restoreIn(world)?.status?.conditions, "GuestReady")?.reason).toBe("Booting");
    world.guestReady = true;
    await play(world, phaseIs("Completed"));
    expect(claimOf(world)).toBe("orders-db-root");
  },
);

test("a guest of a machine that people start late has as much time to get ready as any other", async () => {
  const world = worldWith("Manual", { launch: { guestReady: { timeout: "60s" } } });
  world.guestReady = false;
  await play(world, reasonIs("GuestReady", "NotStarted"));
  await settle(world, 120);
  world.start();
  await settle(world, 40);
  expect(conditionOf(restoreIn(world)?.status?.conditions, "GuestReady")?.reason).toBe("Booting");
  await settle(world, 40);
  expect(conditionOf(restoreIn(world)?.status?.conditions, "GuestReady")?.reason).toBe("TimedOut");
  await settle(world, 40);
  expect(conditionOf(restoreIn(world)?.status?.conditions, "GuestReady")?.reason).toBe("TimedOut");
});

test.each(["Manual", "Once", "RerunOnFailure"])(
  "a machine that ran (%s) runs after its cutover, and after it was taken back, with the run strategy that it had",
  async (runStrategy) => {
    const world = worldWith(runStrategy, relocation({ trial: { period: "1h" } }));
    world.start();
    await play(world, phaseIs("OnTrial"));
    await settle(world);
    expect(instanceIn(world)?.status?.phase).toBe("Running");
    expect(instanceIn(world)?.spec?.volumes?.[0]?.persistentVolumeClaim?.claimName).toBe("orders-db-root");
    expect(machineIn(world)?.spec?.runStrategy).toBe(runStrategy);
    changeSpec(world, relocation({ trial: { period: "1h", decision: "RollBack" } }));
    await play(world, reasonIs("Relocated", "RolledBack"));
    await settle(world);
    expect(instanceIn(world)?.spec?.volumes?.[0]?.persistentVolumeClaim?.claimName).toBe("orders-db-root-restoring");
    expect(machineIn(world)?.spec?.runStrategy).toBe(runStrategy);
    expect(Object.keys(machineIn(world)?.metadata.annotations ?? {}).filter((name) => name.includes("start"))).toEqual(
      [],
    );
    expect(world.faults).toEqual([]);
  },
);

test.each(["Once", "RerunOnFailure"])(
  "a machine (%s) that shut itself down before its cutover is run a second time neither by that nor by the way back",
  async (runStrategy) => {
    const world = worldWith(runStrategy, relocation({ cutover: {}, trial: { period: "1h" } }));
    await play(world, reasonIs("CutOver", "AwaitingApproval"));
    world.poweredOff = true;
    await settle(world, 3);
    expect(instanceIn(world)?.status?.phase).toBe("Succeeded");
    const first = instanceIn(world)?.metadata.uid;
    const runs = new Set([first]);
    const step = world.step.bind(world);
    world.step = () => {
      step();
      for (const { metadata } of world.cluster.all(INSTANCES)) runs.add(metadata.uid);
    };
    changeSpec(world, relocation({ trial: { period: "1h" } }));
    const switched = await play(world, phaseIs("OnTrial"));
    expect(claimOf(world)).toBe("orders-db-root");
    expect(conditionOf(switched?.status?.conditions, "CutOver")?.message).toMatch(
      new RegExp(`had ended by itself before its cutover.*${runStrategy}.*virtctl start orders-db --namespace default`),
    );
    await settle(world);
    changeSpec(world, relocation({ trial: { period: "1h", decision: "RollBack" } }));
    await play(world, reasonIs("Relocated", "RolledBack"));
    await settle(world);
    expect(claimOf(world)).toBe("orders-db-root-restoring");
    expect([...runs]).toEqual([first]);
  },
);

test("a machine (Once) that ended on its target is not run again on the media agent either", async () => {
  const world = worldWith("Once", relocation({ trial: { period: "1h" } }));
  await play(world, phaseIs("OnTrial"));
  world.poweredOff = true;
  await settle(world, 3);
  expect(instanceIn(world)?.status?.phase).toBe("Succeeded");
  changeSpec(world, relocation({ trial: { period: "1h", decision: "RollBack" } }));
  await play(world, reasonIs("Relocated", "RolledBack"));
  await settle(world);
  expect(instanceIn(world)).toBeUndefined();
});

test("a machine (Once) whose instance people end is started anew by KubeVirt, and again by its cutover", async () => {
  const world = worldWith("Once", relocation({ cutover: {}, trial: { period: "1h" } }));
  await play(world, reasonIs("CutOver", "AwaitingApproval"));
  world.cluster.change(INSTANCES, TENANT, "orders-db", (instance) => {
    instance.metadata.finalizers = ["kubevirt.io/foregroundDeleteVirtualMachine"];
    instance.status = { ...instance.status, phase: "Succeeded" };
  });
  world.cluster.erase(INSTANCES, TENANT, "orders-db");
  changeSpec(world, relocation({ trial: { period: "1h" } }));
  await play(world, reasonIs("CutOver", "Halting"));
  world.cluster.change(INSTANCES, TENANT, "orders-db", (instance) => {
    instance.metadata.finalizers = [];
  });
  world.cluster.erase(INSTANCES, TENANT, "orders-db");
  await play(world, phaseIs("OnTrial"));
  await settle(world);
  expect(instanceIn(world)?.status?.phase).toBe("Running");
  expect(machineIn(world)?.spec?.runStrategy).toBe("Once");
});

test("a machine that is taken back before it ran on its target runs again, too", async () => {
  const world = worldWith("Manual", relocation({ trial: { period: "1h" } }));
  world.start();
  await play(world, reasonIs("CutOver", "FinalPass"));
  changeSpec(world, relocation({ trial: { period: "1h", decision: "RollBack" } }));
  await play(world, reasonIs("Relocated", "RolledBack"));
  await settle(world);
  expect(instanceIn(world)?.status?.phase).toBe("Running");
  expect(machineIn(world)?.spec?.runStrategy).toBe("Manual");
});

test("a machine that nobody started is copied all the same where relocation begins immediately, and nobody starts it then", async () => {
  const world = worldWith("Manual", relocation({ begin: "Immediately" }));
  const restore = await play(world, phaseIs("Completed"));
  expect(conditionOf(restore?.status?.conditions, "CutOver")?.message).toContain("It is not running");
  expect(isTrue(restore?.status?.conditions, "CutOver")).toBe(true);
  expect(instanceIn(world)).toBeUndefined();
  expect(machineIn(world)?.spec?.runStrategy).toBe("Manual");
  expect(world.cluster.peek(CLAIMS, TENANT, "orders-db-root")).toBeDefined();
});

test.each([
  ["Manual", "`virtctl start orders-db --namespace default`"],
  ["RerunOnFailure", "`virtctl start orders-db --namespace default`"],
  ["Once", "set the machine's spec.runStrategy to Always"],
])("a guest that shut down before it was ready is not told to be booting: %s", async (runStrategy, how) => {
  const world = worldWith(runStrategy);
  world.guestReady = false;
  world.start();
  await play(world, reasonIs("GuestReady", "Booting"));
  world.poweredOff = true;
  const restore = await play(world, reasonIs("GuestReady", "Ended"));
  expect(readySays(restore)).toContain("shut down");
  expect(readySays(restore)).toContain(how);
});
