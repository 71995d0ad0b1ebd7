import { expect, test } from "@jest/globals";
import type { NodeReport } from "../../api/node-report.ts";
import { type CheckedNode, nodesVerdict } from "./nodes-verdict.ts";

const ABLE: NodeReport = {
  kernel: "6.12.0",
  nfs: "Present",
  nfsv3: "Present",
  mountHelper: "Present",
  selinux: "Off",
  virtUseNfs: "Unknown",
  serviceNetwork: "Reached",
};
const node = (name: string, state: CheckedNode["state"], more: Partial<CheckedNode> = {}): CheckedNode => ({
  ...{ name, labels: {}, taints: [], state },
  ...more,
});
const reported = (name: string, change: Partial<NodeReport> = {}, more: Partial<CheckedNode> = {}) =>
  node(name, { is: "Reported", report: { ...ABLE, ...change } }, more);
const unknown = (name: string) => node(name, { is: "Unknown", why: "the image cannot be pulled." });
const pending = (name: string) => node(name, { is: "Pending" });

test("all can", () => {
  expect(nodesVerdict([reported("a"), reported("b")], {})).toMatchObject({ status: "True", reason: "Checked" });
});

test.each<[Partial<NodeReport>, string, RegExp]>([
  [{ mountHelper: "Missing" }, "NfsClientMissing", /dnf install nfs-utils/],
  [{ nfs: "Missing" }, "KernelLacksNfs", /6\.12\.0/],
  [{ nfsv3: "Missing" }, "KernelLacksNfs", /version 3/],
  [{ selinux: "Enforcing", virtUseNfs: "Off" }, "SelinuxForbidsNfs", /setsebool -P virt_use_nfs 1/],
  [
    { serviceNetwork: "Unreachable", serviceNetworkError: "10.0.0.1 port 443: no answer" },
    "NetworkUnreachable",
    /10\.0\.0\.1/,
  ],
])("none can: %j", (change, reason, text) => {
  const verdict = nodesVerdict([reported("a", change), reported("b", change)], {});
  expect(verdict).toMatchObject({ status: "False", reason });
  expect(verdict?.message).toMatch(text);
  expect(verdict?.message).toContain("b ");
});

test.each<Partial<NodeReport>>([
  { selinux: "Permissive", virtUseNfs: "Off" },
  { selinux: "Unlabelled", virtUseNfs: "Off" },
  { selinux: "Enforcing", virtUseNfs: "On" },
  { selinux: "Enforcing", virtUseNfs: "Unknown" },
  { nfs: "Unknown", nfsv3: "Unknown", mountHelper: "Unknown", serviceNetwork: "Unknown" },
])("is held against nobody: %j", (change) => {
  expect(nodesVerdict([reported("a", change)], {})?.status).toBe("True");
});

test("some can, and the others are named", () => {
  const verdict = nodesVerdict([reported("a"), reported("b", { mountHelper: "Missing" }), pending("c")], {});
  expect(verdict).toMatchObject({ status: "True", reason: "SomeNodesUnable" });
  expect(verdict?.message).toContain("b has no mount.nfs");
});

test("a long list is cut", () => {
  const bad = Array.from({ length: 300 }, (_, index) => reported(`n${index}`, { mountHelper: "Missing" }));
  expect(nodesVerdict(bad, {})?.message).toMatch(/and 295 more\./);
});

test("while nodes are looked at nothing is said, unless one can", () => {
  expect(nodesVerdict([pending("a"), reported("b", { nfs: "Missing" })], {})).toBeUndefined();
  expect(nodesVerdict([pending("a"), reported("b")], {})?.status).toBe("True");
});

test("a node that nobody could look at may be one that can", () => {
  const verdict = nodesVerdict([unknown("a"), reported("b", { nfs: "Missing" })], {});
  expect(verdict).toMatchObject({ status: "Unknown", reason: "Unknown" });
  expect(verdict?.message).toContain("the image cannot be pulled");
  expect(verdict?.message).toContain("nodeCheck.enabled");
});

test("only nodes on which the machine may run count", () => {
  const ssd = { labels: { disk: "ssd" } };
  const nodes = [reported("a", { nfs: "Missing" }, ssd), reported("b")];
  expect(nodesVerdict(nodes, { nodeSelector: { disk: "ssd" } })?.status).toBe("False");
  expect(nodesVerdict(nodes, { nodeSelector: { disk: "tape" } })?.reason).toBe("NoNodeFits");
  expect(nodesVerdict([], {})?.status).toBe("Unknown");
});

test("nodes that the machine's node affinity keeps it off do not count", () => {
  const nodeTerms = { nodeSelectorTerms: [{ matchExpressions: [{ key: "disk", operator: "In", values: ["ssd"] }] }] };
  const nodes = [reported("a", { nfs: "Missing" }, { labels: { disk: "ssd" } }), reported("b")];
  expect(nodesVerdict(nodes, { nodeTerms })?.status).toBe("False");
  expect(nodesVerdict(nodes, {})?.status).toBe("True");
  const byName = { nodeSelectorTerms: [{ matchFields: [{ key: "metadata.name", operator: "In", values: ["b"] }] }] };
  expect(nodesVerdict(nodes, { nodeTerms: byName })?.reason).toBe("Checked");
});

test.each([
  [[], "False"],
  [[{ operator: "Exists" }], "True"],
  [[{ key: "gpu", operator: "Exists" }], "True"],
  [[{ key: "gpu", value: "a100" }], "True"],
  [[{ key: "gpu", value: "other" }], "False"],
  [[{ key: "gpu", operator: "Exists", effect: "NoExecute" }], "False"],
] as const)("taints keep machines off that do not tolerate them: %j → %s", (tolerations, status) => {
  const tainted = { taints: [{ key: "gpu", value: "a100", effect: "NoSchedule" }] };
  const nodes = [reported("a", {}, tainted), reported("b", { nfs: "Missing" })];
  expect(nodesVerdict(nodes, { tolerations })?.status).toBe(status);
});

test("a taint that is only a wish keeps nobody off", () => {
  const nodes = [reported("a", {}, { taints: [{ key: "x", effect: "PreferNoSchedule" }] })];
  expect(nodesVerdict(nodes, {})?.reason).toBe("Checked");
});
