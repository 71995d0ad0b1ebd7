import { expect, test } from "@jest/globals";
import type { Node, Volume } from "../controllers/kinds.ts";
import { chooseNode } from "./scheduling.ts";

function node(name: string, spec: Node["spec"] = {}, zone = "z1"): Node {
  return { apiVersion: "v1", kind: "Node", metadata: { name, labels: { "kubernetes.io/hostname": name, zone } }, spec };
}

function volumeOn(key: string, ...values: string[]): Volume {
  const required = { nodeSelectorTerms: [{ matchExpressions: [{ key, operator: "In", values }] }] };
  const spec = { capacity: { storage: "1Gi" }, accessModes: ["ReadWriteOnce"], nodeAffinity: { required } };
  return { apiVersion: "v1", kind: "PersistentVolume", metadata: { name: "v" }, spec };
}

const [one, two] = [node("one"), node("two", {}, "z2")];
const cordoned = node("one", { unschedulable: true });
const tainted = node("one", { taints: [{ key: "node.kubernetes.io/unschedulable", effect: "NoSchedule" }] });

test("the first node that takes it: not one that is cordoned, tainted, not selected, or out of a volume's reach", () => {
  expect(chooseNode({}, [one, two], [])).toEqual({ node: "one" });
  expect(chooseNode({}, [cordoned, two], [])).toEqual({ node: "two" });
  expect(chooseNode({}, [tainted, two], [])).toEqual({ node: "two" });
  expect(chooseNode({ tolerations: [{ operator: "Exists" }] }, [tainted, two], [])).toEqual({ node: "one" });
  expect(chooseNode({ nodeSelector: { zone: "z2" } }, [one, two], [])).toEqual({ node: "two" });
  expect(chooseNode({}, [one, two], [volumeOn("zone", "z2")])).toEqual({ node: "two" });
  const matchFields = [{ key: "metadata.name", operator: "NotIn", values: ["one"] }];
  const terms = { nodeSelectorTerms: [{ matchFields }] };
  const affinity = { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: terms } };
  expect(chooseNode({ affinity }, [one, two], [])).toEqual({ node: "two" });
});

test("where no node takes it, it says why, as the scheduler does", () => {
  expect(chooseNode({}, [cordoned, two], [volumeOn("kubernetes.io/hostname", "one")])).toEqual({
    message:
      "0/2 nodes are available: 1 node(s) didn't match PersistentVolume's node affinity, 1 node(s) were unschedulable.",
  });
});
