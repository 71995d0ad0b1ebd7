import { expect, test } from "@jest/globals";
import { JOBS, VM_RESTORES } from "../kinds.ts";
import { ApiError } from "../runtime/errors.ts";
import { operatorIn } from "./testing/run.ts";
import { TENANT, World } from "./testing/world.ts";

test("of two failures the first is told: the action's, not that of writing it down", async () => {
  const world = new World();
  world.restore();
  const operator = operatorIn(world);
  await operator.reconcile(TENANT, "orders-db");
  world.cluster.onWrite = ({ type }) => {
    if (type === JOBS) throw new ApiError("the quota is used up", { status: 403 });
    if (type === VM_RESTORES) throw new ApiError("it is not there", { status: 404 });
  };
  await expect(operator.reconcile(TENANT, "orders-db")).rejects.toThrow("the quota is used up");
});
