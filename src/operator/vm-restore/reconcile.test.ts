import { expect, test } from "@jest/globals";
import * as kinds from "../kinds.ts";
import { JOBS, VM_RESTORES } from "../kinds.ts";
import type { Watched } from "../runtime/cached-reads.ts";
import { ApiError } from "../runtime/errors.ts";
import type { ResourceType } from "../runtime/objects.ts";
import { reasonIs } from "./testing/course.ts";
import { operatorIn, play } from "./testing/run.ts";
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

test("of an agent that does not answer the API server is not asked again and again", async () => {
  const world = new World();
  world.restore({ relocation: { strategy: "None" } });
  await play(world, reasonIs("Expired", "Never"));
  const connector = () => {
    throw new Error("connection refused");
  };
  const operator = operatorIn(world, world.cluster, { connector, watched: watchesOf(world) });
  for (let look = 0; look < 3; look++) await operator.reconcile(TENANT, "orders-db");
  const asked = world.cluster.reads.length;
  const written = world.cluster.writes.length;
  for (let look = 0; look < 10; look++) await operator.reconcile(TENANT, "orders-db");
  expect(world.cluster.reads.slice(asked)).toEqual([]);
  expect(world.cluster.writes.slice(written)).toEqual([]);
});

/** Watches that always know everything. */
function watchesOf({ cluster }: World): Watched[] {
  const types = Object.values(kinds) as ResourceType[];
  return types.map((type) => ({
    type,
    namespace: undefined,
    synced: true,
    get: (namespace, name) => cluster.peek(type, namespace, name),
    objects: () => cluster.all(type),
  }));
}
