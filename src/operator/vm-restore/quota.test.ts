import { expect, test } from "@jest/globals";
import { CLAIMS, JOBS, type ResourceQuota, VIRTUAL_MACHINES } from "../kinds.ts";
import type { PlannedObject } from "./planned-objects.ts";
import { demandOf, quotaProblem } from "./quota.ts";

const GIB = 2 ** 30;
const objects: PlannedObject[] = [
  { type: CLAIMS, namespace: "shop", name: "db-root", bytes: 20 * GIB, storageClassName: "fast" },
  { type: CLAIMS, namespace: "shop", name: "db-root-restoring", bytes: 19 * GIB, storageClassName: "" },
  { type: JOBS, namespace: "shop", name: "copy", pods: 1 },
  { type: VIRTUAL_MACHINES, namespace: "shop", name: "db", pods: 1 },
];

function quota(hard: Record<string, string>, used: Record<string, string> = {}, spec: object = {}): ResourceQuota {
  return {
    apiVersion: "v1",
    kind: "ResourceQuota",
    metadata: { name: "small", namespace: "shop" },
    spec: { hard, ...spec },
    status: { hard, used },
  };
}

test("what a quota counts is counted under each of its names", () => {
  expect(Object.fromEntries(demandOf(objects))).toEqual({
    "count/persistentvolumeclaims": 2,
    persistentvolumeclaims: 2,
    "requests.storage": 39 * GIB,
    "fast.storageclass.storage.k8s.io/requests.storage": 20 * GIB,
    "fast.storageclass.storage.k8s.io/persistentvolumeclaims": 1,
    "count/jobs.batch": 1,
    "count/virtualmachines.kubevirt.io": 1,
    pods: 2,
    "count/pods": 2,
  });
});

test.each<[string, ResourceQuota, RegExp | undefined]>([
  ["room for exactly that", quota({ "requests.storage": "100Gi" }, { "requests.storage": "61Gi" }), undefined],
  [
    "a byte too little",
    quota({ "requests.storage": "100Gi" }, { "requests.storage": String(61 * GIB + 1) }),
    /ResourceQuota small of namespace shop allows 100Gi of requests\.storage\. \d+ are used, and this restore needs 39Gi\. Raise/,
  ],
  [
    "too few claims",
    quota({ persistentvolumeclaims: "1" }),
    /allows 1 of persistentvolumeclaims. 0 are used, and this restore needs 2/,
  ],
  [
    "no room in the class",
    quota({ "fast.storageclass.storage.k8s.io/requests.storage": "10Gi" }),
    /fast\.storageclass/,
  ],
  ["no room in another class", quota({ "slow.storageclass.storage.k8s.io/requests.storage": "0" }), undefined],
  ["no machines", quota({ "count/virtualmachines.kubevirt.io": "0" }), /virtualmachines/],
  ["nothing of ours in it", quota({ "count/deployments.apps": "0" }), undefined],
  ["an amount that is no whole number", quota({ "requests.storage": "1500m" }), undefined],
  ["scopes", quota({ pods: "0" }, {}, { scopes: ["BestEffort"] }), undefined],
])("a quota with %s", (_, given, problem) => {
  const told = quotaProblem([given], objects);
  if (problem === undefined) expect(told).toBeUndefined();
  else expect(told).toMatch(problem);
});

test("a quota that was not counted yet goes by its spec", () => {
  const { status: _, ...fresh } = quota({ persistentvolumeclaims: "1" });
  expect(quotaProblem([fresh], objects)).toMatch(/allows 1/);
});
