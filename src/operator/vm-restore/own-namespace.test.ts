import { expect, test } from "@jest/globals";
import { vmRestoreSpec } from "../../api/vm-restore.ts";
import { JOBS } from "../kinds.ts";
import { AgentSession } from "./agent-session.ts";
import { observe } from "./observe.ts";
import { reasonIs } from "./testing/course.ts";
import { operatorIn, phaseIs, restoreIn } from "./testing/run.ts";
import { TENANT, World } from "./testing/world.ts";

test("a restore in the operator's own namespace: its relocation Job is not taken for one that looks into the backup", async () => {
  const world = new World();
  const settings = { namespace: TENANT, image: "vmrestore" };
  const operator = operatorIn(world, world.cluster, { settings });
  const goOn = async (until: ReturnType<typeof phaseIs>) => {
    for (let round = 0; round < 200 && !until(restoreIn(world)); round++) {
      await operator.reconcile(TENANT, "orders-db");
      world.step();
      await world.clock.advance(1000);
    }
  };
  world.copyingGoesOn = false;
  world.restore();
  await goOn(reasonIs("Relocated", "Copying"));
  const restore = restoreIn(world);
  if (restore === undefined) throw new Error("the restore is gone");
  expect(world.cluster.all(JOBS).map(({ metadata }) => metadata.name)).toEqual([`vmr-${restore.metadata.uid}-copy`]);
  const session = new AgentSession(world.connect);
  const gathered = { cluster: world.cluster, settings, now: world.clock.now(), session };
  const observed = await observe(gathered, restore, vmRestoreSpec.parse(restore.spec));
  expect(observed.job?.metadata.name).toMatch(/-copy$/);
  expect(observed.inspectionJobs).toEqual([]);
  world.copyingGoesOn = true;
  await goOn(phaseIs("Completed"));
  expect(restoreIn(world)?.status?.phase).toBe("Completed");
  expect(world.cluster.all(JOBS)).toEqual([]);
});
