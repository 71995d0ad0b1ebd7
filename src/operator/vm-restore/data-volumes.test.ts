import { expect, test } from "@jest/globals";
import { CLAIMS, INSTANCES, STATEFUL_SETS, VIRTUAL_MACHINES, VM_RESTORES } from "../kinds.ts";
import { claimsOf } from "./served-claims.ts";
import { changeSpec, claimOf, reasonIs, relocation, settle } from "./testing/course.ts";
import { phaseIs, play } from "./testing/run.ts";
import { OWN, TENANT, World } from "./testing/world.ts";

// A machine's volume may name a claim as a DataVolume: KubeVirt takes the claim of that name, whether or not there is a DataVolume.

const NAME = "orders-db";
const TARGET = "orders-db-root";
const SERVED = "orders-db-root-restoring";

/** Somebody writes the machine's disk down as a DataVolume. */
function name(world: World, claim: string, change: object = {}): void {
  world.cluster.change(VIRTUAL_MACHINES, TENANT, NAME, (machine) => {
    const volumes = [{ name: "root", dataVolume: { name: claim, hotpluggable: true } }];
    const template = { ...machine.spec?.template, spec: { ...machine.spec?.template?.spec, volumes } };
    machine.spec = { ...machine.spec, template, ...change };
  });
}

async function copied(): Promise<World> {
  const world = new World();
  world.restore(relocation({ cutover: {} }));
  await play(world, reasonIs("CutOver", "AwaitingApproval"));
  return world;
}

const overlays = ({ cluster }: World) =>
  cluster.all(CLAIMS).filter(({ metadata }) => metadata.namespace === OWN && metadata.name.endsWith("-overlay"));

test("claims are found whichever way a volume names them, each once", () => {
  const volumes = [
    { name: "a", persistentVolumeClaim: { claimName: "one" } },
    { name: "b", dataVolume: { name: "two" } },
    { name: "c", dataVolume: { name: "one" } },
    { name: "d", cloudInitNoCloud: {} },
    { name: "e", dataVolume: {} },
  ];
  expect(claimsOf(volumes)).toEqual(["one", "two"]);
  expect(claimsOf(undefined)).toEqual([]);
});

test("a machine that names a served claim as a DataVolume goes to its target", async () => {
  const world = await copied();
  name(world, SERVED);
  changeSpec(world, relocation());
  await play(world, phaseIs("Completed"));
  expect(claimOf(world)).toBe(TARGET);
  const [volume] = world.cluster.peek(VIRTUAL_MACHINES, TENANT, NAME)?.spec?.template?.spec?.volumes ?? [];
  expect(volume).toEqual({ name: "root", persistentVolumeClaim: { claimName: TARGET, hotpluggable: true } });
  expect(world.faults).toEqual([]);
});

test("a machine without label that names a served claim as a DataVolume keeps its disks", async () => {
  const world = await copied();
  name(world, SERVED, { runStrategy: "Halted" });
  world.cluster.change(VIRTUAL_MACHINES, TENANT, NAME, (machine) => {
    delete machine.metadata.labels;
  });
  await settle(world);
  world.cluster.erase(VM_RESTORES, TENANT, NAME);
  await settle(world, 30);
  expect(overlays(world)).toHaveLength(1);
  expect(world.cluster.all(STATEFUL_SETS)).toHaveLength(1);
});

test("a target that a machine names as a DataVolume is neither copied to nor removed", async () => {
  const world = await copied();
  name(world, TARGET, { runStrategy: "Halted" });
  await play(world, () => world.cluster.all(INSTANCES).length === 0);
  await play(world, reasonIs("Relocated", "TargetInUse"));
  changeSpec(world, relocation({ strategy: "None" }));
  await settle(world);
  expect(world.cluster.peek(CLAIMS, TENANT, TARGET)).toBeDefined();
});
