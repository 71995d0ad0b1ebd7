import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { parse } from "yaml";
import { type Rendered, render } from "../scenario/chart.ts";

const ROOT = join(import.meta.dirname, "../..");
const CHART = join(ROOT, "charts/vmrestore-operator");

function one(objects: Rendered[], kind: string, name?: string): Rendered {
  const found = objects.filter(
    (object) => object.kind === kind && (name === undefined || object.metadata.name === name),
  );
  expect(found).toHaveLength(1);
  return found[0] as Rendered;
}

test("renders an operator that is probed, unprivileged, and told its namespace and image", () => {
  const objects = render({});
  const deployment = one(objects, "Deployment");
  const pod = deployment.spec.template.spec;
  const operator = pod.containers[0];
  expect(deployment.spec.replicas).toBe(2);
  expect(operator.command).toEqual(["vmrestore", "operator"]);
  expect(operator.args).toContain("--image=ghcr.io/vmrestore/vmrestore:0.1.0");
  expect(operator.livenessProbe.httpGet.path).toBe("/healthz");
  expect(operator.readinessProbe.httpGet.path).toBe("/readyz");
  expect(pod.securityContext.runAsNonRoot).toBe(true);
  expect(operator.securityContext.capabilities.drop).toEqual(["ALL"]);
  const options = operator.env.find(({ name }: { name: string }) => name === "NODE_OPTIONS").value;
  // In MiB: what else a process takes is about 150.
  expect(Number(/--max-old-space-size=(\d+)/.exec(options)?.[1])).toBeLessThan(512 - 150);
  expect(operator.resources.limits.memory).toBe("512Mi");
  const account = one(objects, "ServiceAccount").metadata.name;
  expect(pod.serviceAccountName).toBe(account);
  const labels = deployment.spec.template.metadata.labels;
  expect(labels).toMatchObject(deployment.spec.selector.matchLabels);
  for (const object of objects) expect(object.metadata.labels["app.kubernetes.io/managed-by"]).toBe("Helm");
});

test("the operator's account may do what deploy/rbac.yaml says, and nothing else", () => {
  const objects = render({});
  const roles = parse(readFileSync(join(ROOT, "deploy/rbac.yaml"), "utf8"));
  expect(one(objects, "ClusterRole").rules).toEqual(roles.cluster);
  expect(one(objects, "Role").rules).toEqual(roles.namespace);
  for (const [binding, role] of [
    ["ClusterRoleBinding", "ClusterRole"],
    ["RoleBinding", "Role"],
  ] as const) {
    const bound = one(objects, binding);
    expect(bound.roleRef).toMatchObject({ kind: role, name: one(objects, role).metadata.name });
    expect(bound.subjects).toEqual([{ kind: "ServiceAccount", name: "vmrestore", namespace: "vmrestore-system" }]);
  }
});

test("objects are named after the release, and after the product where the release is not", () => {
  const names = (release: string) =>
    new Set(render({ monitoring: { podMonitor: true } }, release).map(({ metadata }) => metadata.name));
  // The Lease is named by the operator itself.
  const of = (base: string) =>
    new Set([
      ...[base, "vmrestore-operator"],
      ...["operator", "media-agent", "volumes", "claims"].map((part) => `${base}-${part}`),
    ]);
  expect(names("vmrestore")).toEqual(of("vmrestore"));
  expect(names("prod")).toEqual(of("prod-vmrestore"));
  for (const name of names("p".repeat(53))) expect(name.length).toBeLessThanOrEqual(63 + "-media-agent".length);
});

test("the Lease is put there without a holder where there is none, and never touched again", () => {
  const lease = one(render({}), "Lease");
  expect(lease.metadata).toMatchObject({ name: "vmrestore-operator", namespace: "vmrestore-system" });
  expect(lease.metadata.annotations).toEqual({ "helm.sh/resource-policy": "keep" });
  expect(lease.spec).toBeUndefined();
  const present = { "Lease/vmrestore-system/vmrestore-operator": { metadata: {} } };
  expect(render({}, "vmrestore", present).filter(({ kind }) => kind === "Lease")).toEqual([]);
});

test("values reach the objects", () => {
  const objects = render({
    image: { repository: "example.org/vmrestore", tag: "9.9" },
    replicas: 1,
    nodeSelector: { "kubernetes.io/os": "linux" },
    tolerations: [{ key: "infra", operator: "Exists" }],
  });
  const spec = one(objects, "Deployment").spec;
  expect(spec.replicas).toBe(1);
  expect(spec.template.spec.containers[0].image).toBe("example.org/vmrestore:9.9");
  expect(spec.template.spec.nodeSelector).toEqual({ "kubernetes.io/os": "linux" });
  expect(spec.template.spec.tolerations).toEqual([{ key: "infra", operator: "Exists" }]);
});

test("monitoring is off by default, and complete when asked for", () => {
  expect(render({}).filter((object) => ["PodMonitor", "ConfigMap"].includes(object.kind))).toEqual([]);
  const objects = render({ monitoring: { podMonitor: true, grafanaDashboard: true } });
  const monitors = objects.filter((object) => object.kind === "PodMonitor");
  expect(monitors.map((monitor) => monitor.spec.podMetricsEndpoints[0].port)).toEqual(["metrics", "metrics"]);
  const dashboard = JSON.parse(one(objects, "ConfigMap").data["vmrestore.json"]);
  expect(dashboard.panels.length).toBeGreaterThan(4);
});

test("the chart ships the generated CRDs", () => {
  const shipped = readdirSync(join(CHART, "crds")).sort();
  expect(shipped).toEqual(readdirSync(join(ROOT, "crds")).sort());
  expect(shipped.length).toBeGreaterThanOrEqual(3);
  for (const file of shipped)
    expect(readFileSync(join(CHART, "crds", file), "utf8")).toContain("CustomResourceDefinition");
});

test("says how many restores of one namespace may be under way only where that is limited", () => {
  const args = (values: object): string[] => one(render(values), "Deployment").spec.template.spec.containers[0].args;
  expect(args({}).filter((arg) => arg.startsWith("--max-restores"))).toEqual([]);
  expect(args({ maxRestoresPerNamespace: 3 })).toContain("--max-restores-per-namespace=3");
});

test("media agents share what they fetch unless that is switched off", () => {
  const args = (values: object): string[] => one(render(values), "Deployment").spec.template.spec.containers[0].args;
  expect(args({})).not.toContain("--no-share-blobs");
  expect(args({ shareBlobs: false })).toContain("--no-share-blobs");
});

test("nodes are looked at unless that is switched off", () => {
  const args = (values: object): string[] => one(render(values), "Deployment").spec.template.spec.containers[0].args;
  expect(args({})).toContain("--check-nodes");
  expect(args({ nodeCheck: { enabled: false } })).not.toContain("--check-nodes");
});
