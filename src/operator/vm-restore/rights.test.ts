import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { parse } from "yaml";
import { CLAIMS, JOBS, VIRTUAL_MACHINES } from "../kinds.ts";
import type { AccessRule } from "../runtime/access-rules.ts";
import type { PlannedObject } from "./planned-objects.ts";
import { missingRights } from "./rights.ts";
import { operatorIn, restoreIn } from "./testing/run.ts";
import { OWN, TENANT, World } from "./testing/world.ts";

const objects: PlannedObject[] = [
  { type: CLAIMS, namespace: "shop", name: "a" },
  { type: CLAIMS, namespace: "shop", name: "b" },
  { type: JOBS, namespace: "shop", name: "copy" },
  { type: VIRTUAL_MACHINES, namespace: "shop", name: "db" },
];
const ALL: AccessRule = { verbs: ["*"], apiGroups: ["*"], resources: ["*"] };

test.each<[string, AccessRule[], string[]]>([
  ["everything", [ALL], []],
  [
    "nothing",
    [],
    [
      "create persistentvolumeclaims",
      "delete persistentvolumeclaims",
      "create jobs",
      "delete jobs",
      "create virtualmachines",
      "delete virtualmachines",
      "update virtualmachines",
    ],
  ],
  [
    "all but Jobs, which it may do in another group",
    [
      { verbs: ["create", "delete"], apiGroups: ["", "other"], resources: ["persistentvolumeclaims", "jobs"] },
      { verbs: ["create", "delete", "update"], apiGroups: ["kubevirt.io"], resources: ["virtualmachines"] },
    ],
    ["create jobs", "delete jobs"],
  ],
  ["some objects by name", [{ ...ALL, resourceNames: ["a"] }], missingRights([], objects)],
])("an operator that may do %s", (_, rules, missing) => {
  expect(missingRights(rules, objects)).toEqual(missing);
});

test("labels of claims are changed only where a machine is replaced", () => {
  const rules: AccessRule[] = [
    { verbs: ["create", "delete"], apiGroups: [""], resources: ["persistentvolumeclaims"] },
    { ...ALL, resources: ["jobs", "virtualmachines"] },
  ];
  expect(missingRights(rules, objects)).toEqual([]);
  expect(missingRights(rules, objects, true)).toEqual(["update persistentvolumeclaims"]);
});

async function goOn(world: World, rules: Record<string, AccessRule[]>, rounds: number): Promise<void> {
  const operator = operatorIn(world, world.cluster, { access: { in: async (namespace) => rules[namespace] } });
  for (let round = 0; round < rounds; round++) {
    await operator.reconcile(TENANT, "orders-db").catch(() => undefined);
    world.step();
    await world.clock.advance(1000);
  }
}

test("rights that are missing are told before anything is made", async () => {
  const world = new World();
  world.restore();
  await goOn(world, { [TENANT]: [], [OWN]: [ALL] }, 10);
  expect(restoreIn(world)?.status?.message).toMatch(
    /may not do in namespace default what this restore needs: create persistentvolumeclaims, .*update virtualmachines/,
  );
  expect(world.cluster.writes.filter(({ type }) => !["Event", "Job", "VMRestore"].includes(type.kind))).toEqual([]);
});

test("the roles of the chart are enough", async () => {
  const roles = parse(readFileSync(join(import.meta.dirname, "../../../deploy/rbac.yaml"), "utf8")) as Record<
    "cluster" | "namespace",
    AccessRule[]
  >;
  const world = new World();
  world.restore();
  await goOn(world, { [TENANT]: roles.cluster, [OWN]: [...roles.cluster, ...roles.namespace] }, 120);
  expect(restoreIn(world)?.status?.phase).toBe("Completed");
});
