import { expect, test } from "@jest/globals";
import { LABELS } from "../../api/group.ts";
import { conditionOf } from "../conditions.ts";
import { CLAIMS, STATEFUL_SETS, VIRTUAL_MACHINES, VM_RESTORES } from "../kinds.ts";
import { changeSpec, claimOf, reasonIs, relocation, settle } from "./testing/course.ts";
import { phaseIs, play, restoreIn } from "./testing/run.ts";
import { OWN, TENANT, World } from "./testing/world.ts";

// `kubectl replace` of a whole namespace's manifests takes the labels off the machine *and* its claims. With `--force` the claims are others, too.

const NAME = "orders-db";
const TARGET = "orders-db-root";
const SERVED = "orders-db-root-restoring";
const WAITING = relocation({ cutover: {} });

type Loss = "labels lost" | "claims made anew" | "claims deleted";
const LOSSES: Loss[] = ["labels lost", "claims made anew", "claims deleted"];

/** The machine has no marks at all, and is off; its claims have none either, or are others, or are gone. */
function lose(world: World, loss: Loss = "labels lost", runStrategy = "Halted"): void {
  world.cluster.change(VIRTUAL_MACHINES, TENANT, NAME, (machine) => {
    delete machine.metadata.labels;
    delete machine.metadata.annotations;
    machine.spec = { ...machine.spec, runStrategy };
  });
  for (const claim of [SERVED, TARGET]) {
    const { metadata, ...rest } = structuredClone(world.cluster.peek(CLAIMS, TENANT, claim)) ?? {};
    if (metadata === undefined) continue;
    if (loss === "labels lost")
      world.cluster.change(CLAIMS, TENANT, claim, (each) => {
        delete each.metadata.labels;
      });
    else world.cluster.erase(CLAIMS, TENANT, claim);
    if (loss === "claims made anew")
      world.cluster.put(CLAIMS, { ...rest, metadata: { name: metadata.name, namespace: TENANT }, spec: {} });
  }
}

function putLabelBack(world: World, change: object = {}): void {
  const uid = restoreIn(world)?.metadata.uid ?? "";
  world.cluster.change(VIRTUAL_MACHINES, TENANT, NAME, (machine) => {
    machine.metadata.labels = { [LABELS.restoreUid]: uid };
    machine.spec = { ...machine.spec, ...change };
  });
}

const overlays = ({ cluster }: World) =>
  cluster.all(CLAIMS).filter(({ metadata }) => metadata.namespace === OWN && metadata.name.endsWith("-overlay"));

function expectKept(world: World): void {
  expect(overlays(world)).toHaveLength(1);
  expect(world.cluster.all(STATEFUL_SETS)).toHaveLength(1);
}

test.each(LOSSES)("the overlay outlives its VMRestore where the machine lost its label (%s)", async (loss) => {
  const world = new World();
  world.restore(WAITING);
  await play(world, reasonIs("CutOver", "AwaitingApproval"));
  lose(world, loss);
  await settle(world);
  world.cluster.erase(VM_RESTORES, TENANT, NAME);
  const kept = await settle(world, 30);
  expectKept(world);
  expect(kept?.status?.message).toMatch(/lost the label that says so/);
  world.cluster.erase(VIRTUAL_MACHINES, TENANT, NAME);
  await play(world, (restore) => restore === undefined);
  expect(overlays(world)).toEqual([]);
  expect(world.cluster.all(STATEFUL_SETS)).toEqual([]);
});

test.each(LOSSES)("nothing is discarded from under a machine that lost its label (%s)", async (loss) => {
  const world = new World();
  world.restore({ ...WAITING, deletionPolicy: "Discard" });
  await play(world, reasonIs("CutOver", "AwaitingApproval"));
  lose(world, loss);
  world.cluster.erase(VM_RESTORES, TENANT, NAME);
  await settle(world, 30);
  expectKept(world);
});

test.each(LOSSES)("a trial is not committed by a machine that lost its label (%s)", async (loss) => {
  const world = new World();
  world.restore(relocation({ trial: { period: "1m", onExpiry: "Commit" } }));
  await play(world, reasonIs("Committed", "OnTrial"));
  lose(world, loss, "Always");
  const waiting = await settle(world, 90);
  expect(waiting?.status?.phase).toBe("OnTrial");
  expect(waiting?.status?.message).toMatch(/lost the label that says so/);
  expectKept(world);
});

test.each(["Halting", "Sealing", "FinalPass", "Switching"])(
  "a machine that loses every mark at %s keeps its disks, and goes on with its label put back",
  async (reason) => {
    const world = new World();
    world.restore(relocation());
    await play(world, reasonIs("CutOver", reason));
    lose(world);
    world.cluster.erase(VM_RESTORES, TENANT, NAME);
    const kept = await settle(world, 30);
    expectKept(world);
    expect(world.cluster.peek(CLAIMS, TENANT, TARGET)).toBeDefined();
    expect(kept?.status?.message).toMatch(/lost the label that says so/);
    putLabelBack(world);
    await settle(world, 60);
    // Halted only, it is where it was; with its disks sealed, it is brought to its end.
    if (reason === "Halting") expectKept(world);
    else expect(claimOf(world)).toBe(TARGET);
    expect(world.faults).toEqual([]);
  },
);

test("a machine that loses every mark on its way back keeps its disks", async () => {
  const world = new World();
  world.restore(relocation({ trial: { period: "1h", onExpiry: "RollBack" } }));
  await play(world, phaseIs("OnTrial"));
  await world.clock.advance(3600_000);
  await play(world, phaseIs("RollingBack"));
  lose(world);
  world.cluster.erase(VM_RESTORES, TENANT, NAME);
  await settle(world, 30);
  expectKept(world);
  expect(world.cluster.peek(CLAIMS, TENANT, TARGET)).toBeDefined();
});

test("a machine that was moved live and loses every mark on its trial is not committed for that", async () => {
  const world = new World();
  world.volumeMigrations.install();
  const trial = { period: "1m", onExpiry: "Commit" };
  world.restore({ relocation: { target: { storageClassName: "fast" }, trial } });
  await play(world, reasonIs("Committed", "OnTrial"));
  expect(restoreIn(world)?.status?.strategy).toBe("LiveMigration");
  lose(world, "labels lost", "Always");
  const waiting = await settle(world, 90);
  expect(waiting?.status?.phase).toBe("OnTrial");
  expectKept(world);
});

test("the status says which claims lost their labels, and how to put them back", async () => {
  const world = new World();
  world.restore(WAITING);
  await play(world, reasonIs("CutOver", "AwaitingApproval"));
  lose(world);
  const told = await play(world, reasonIs("VirtualMachineCreated", "LabelLost"), 30);
  const uid = told?.metadata.uid;
  const message = conditionOf(told?.status?.conditions, "VirtualMachineCreated")?.message;
  expect(message).toContain(
    `\`kubectl label virtualmachine ${NAME} --namespace ${TENANT} ${LABELS.restoreUid}=${uid}\``,
  );
  expect(message).toContain(
    `\`kubectl label pvc ${SERVED} ${TARGET} --namespace ${TENANT} ${LABELS.restoreUid}=${uid}\``,
  );
});

test("with the machine's label back, claims that lost theirs are still known, and none that is served is left behind", async () => {
  const world = new World();
  world.restore(WAITING);
  await play(world, reasonIs("CutOver", "AwaitingApproval"));
  const target = world.cluster.peek(CLAIMS, TENANT, TARGET)?.metadata.uid;
  lose(world);
  await settle(world);
  putLabelBack(world, { runStrategy: "Always" });
  changeSpec(world, relocation());
  await play(world, phaseIs("Completed"));
  expect(world.cluster.peek(CLAIMS, TENANT, TARGET)?.metadata.uid).toBe(target);
  expect(world.cluster.peek(CLAIMS, TENANT, SERVED)).toBeUndefined();
  expect(world.faults).toEqual([]);
});

test("a machine of somebody else that has the name, and disks of its own, keeps no restore from going", async () => {
  const world = new World();
  world.restore(WAITING);
  await play(world, reasonIs("CutOver", "AwaitingApproval"));
  world.cluster.change(VIRTUAL_MACHINES, TENANT, NAME, (machine) => {
    delete machine.metadata.labels;
    const volumes = [{ name: "root", persistentVolumeClaim: { claimName: "somebody-elses" } }];
    const template = { ...machine.spec?.template, spec: { ...machine.spec?.template?.spec, volumes } };
    machine.spec = { ...machine.spec, runStrategy: "Halted", template };
  });
  world.cluster.erase(VM_RESTORES, TENANT, NAME);
  await play(world, (restore) => restore === undefined);
  expect(overlays(world)).toEqual([]);
});
