import { expect, test } from "@jest/globals";
import { conditionOf } from "../conditions.ts";
import { NAMESPACES, RESOURCE_QUOTAS } from "../kinds.ts";
import { reasonIs, settle } from "./testing/course.ts";
import { phaseIs, play } from "./testing/run.ts";
import { OWN, TENANT, World } from "./testing/world.ts";

/** What was written but inspection Jobs, events and the restore itself. */
const made = (world: World) =>
  world.cluster.writes.filter(({ type }) => !["Event", "Job", "VMRestore"].includes(type.kind));

function allow(world: World, namespace: string, storage: string): void {
  const hard = { "requests.storage": storage };
  world.cluster.put(RESOURCE_QUOTAS, {
    apiVersion: "v1",
    kind: "ResourceQuota",
    metadata: { name: "storage", namespace },
    spec: { hard },
    status: { hard, used: {} },
  });
}

test.each([
  ["the machine's namespace", TENANT, "100Mi"],
  ["the operator's namespace", OWN, "300Mi"],
])(
  "a quota without room in %s is told before anything is made, and that it was raised",
  async (_, namespace, storage) => {
    const world = new World();
    allow(world, namespace, storage);
    world.restore();
    const refused = await play(world, reasonIs("TargetReady", "QuotaExceeded"));
    expect(refused?.status?.phase).toBe("Pending");
    expect(refused?.status?.message).toMatch(`ResourceQuota storage of namespace ${namespace} allows ${storage}`);
    await settle(world);
    expect(made(world)).toEqual([]);
    allow(world, namespace, "10Gi");
    await play(world, phaseIs("Completed"));
  },
);

test("a quota of another namespace does not matter", async () => {
  const world = new World();
  allow(world, "elsewhere", "0");
  world.restore();
  await play(world, phaseIs("Completed"));
});

test("nothing is begun in a namespace that is being deleted", async () => {
  const world = new World();
  world.cluster.put(NAMESPACES, {
    apiVersion: "v1",
    kind: "Namespace",
    metadata: { name: TENANT, finalizers: ["kubernetes"], deletionTimestamp: "2026-01-01T00:00:00Z" },
  });
  world.restore();
  const refused = await play(world, reasonIs("TargetReady", "NamespaceTerminating"));
  expect(conditionOf(refused?.status?.conditions, "TargetReady")?.message).toMatch(/Restore into another one/);
  await settle(world);
  expect(made(world)).toEqual([]);
});
