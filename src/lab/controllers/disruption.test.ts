import { expect, test } from "@jest/globals";
import { countBudget } from "./disruption.ts";
import type { DisruptionBudget, Pod, StatefulSet } from "./kinds.ts";

type Spec = NonNullable<DisruptionBudget["spec"]>;

const SET: StatefulSet = {
  apiVersion: "apps/v1",
  kind: "StatefulSet",
  metadata: { name: "set", uid: "set-uid" },
  spec: { replicas: 3, selector: {}, template: { spec: {} } },
};

function pod(name: string, isReady = true, change: Partial<Pod["metadata"]> = {}): Pod {
  const ownerReferences = [{ ...SET, name: "set", uid: "set-uid", controller: true }];
  const conditions = [{ type: "Ready", status: isReady ? "True" : "False" }];
  return { apiVersion: "v1", kind: "Pod", metadata: { name, ownerReferences, ...change }, status: { conditions } };
}

function budget(spec: Spec, disruptedPods: Record<string, string> = {}): DisruptionBudget {
  return {
    apiVersion: "policy/v1",
    kind: "PodDisruptionBudget",
    metadata: { name: "b" },
    spec,
    status: { disruptedPods },
  };
}

const NOW = Date.parse("2026-01-01T00:00:00Z");
const counted = (spec: Spec, pods: Pod[], disrupted: Record<string, string> = {}) =>
  countBudget(budget(spec, disrupted), pods, [SET], NOW);

test.each([
  // maxUnavailable counts from what the set wants, three, also where one is missing
  [{ maxUnavailable: 1 }, ["a", "b", "c"], 1],
  [{ maxUnavailable: 1 }, ["a", "b"], 0],
  [{ maxUnavailable: 0 }, ["a", "b", "c"], 0],
  [{ maxUnavailable: "34%" }, ["a", "b", "c"], 2],
  [{ minAvailable: 2 }, ["a", "b", "c"], 1],
  [{ minAvailable: "50%" }, ["a", "b", "c"], 1],
  [{ minAvailable: 0 }, [], 0],
])("%j of pods %j allows %i", (spec, names, allowed) => {
  expect(
    counted(
      spec,
      names.map((name) => pod(name)),
    ).disruptionsAllowed,
  ).toBe(allowed);
});

test("a pod that is not ready, ends, or is about to be evicted is not healthy; one that stayed is again", () => {
  const going = pod("b", true, { deletionTimestamp: "2026-01-01T00:00:00Z" });
  expect(counted({ maxUnavailable: 1 }, [pod("a", false), going, pod("c")]).currentHealthy).toBe(1);
  const all = [pod("a"), pod("b"), pod("c")];
  expect(counted({ maxUnavailable: 1 }, all, { a: "2025-12-31T23:59:30Z" }).disruptionsAllowed).toBe(0);
  const stayed = counted({ maxUnavailable: 1 }, all, { a: "2025-12-31T23:50:00Z", gone: "2026-01-01T00:00:00Z" });
  expect(stayed).toMatchObject({ disruptionsAllowed: 1, disruptedPods: {} });
});

test("pods that nobody controls count as they are", () => {
  const loose = pod("x", true, { ownerReferences: [] });
  expect(counted({ maxUnavailable: 1 }, [loose])).toMatchObject({ expectedPods: 1, disruptionsAllowed: 1 });
});
