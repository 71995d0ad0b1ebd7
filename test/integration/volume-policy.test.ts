import { execFile } from "node:child_process";
import { expect, test } from "@jest/globals";
import { startTestControlPlane } from "../../src/lab/testing/test-control-plane.ts";
import { VOLUMES, type Volume } from "../../src/operator/kinds.ts";
import { SET_ASIDE_LABEL, STATE_LABEL } from "../../src/operator/vm-restore/names.ts";
import { phaseIs, play } from "../../src/operator/vm-restore/testing/run.ts";
import { OWN, World } from "../../src/operator/vm-restore/testing/world.ts";
import { type Rendered, render } from "../scenario/chart.ts";

// The policies that let the operator make no PersistentVolumes but its own, and change nothing of claims but two labels. Their expressions
// are CEL, which only a real API server evaluates: there, where one is at hand, and here for what can be told without.

interface Named {
  name: string;
  expression: string;
  message?: string;
}

function policyOf(values: object = {}): { policy: Rendered; binding: Rendered; account: Rendered } {
  const objects = render(values);
  const one = (kind: string) => {
    const found = objects.filter(({ kind: of, metadata }) => of === kind && !metadata.name.endsWith("-claims"));
    expect(found).toHaveLength(1);
    return found[0] as Rendered;
  };
  return {
    policy: one("ValidatingAdmissionPolicy"),
    binding: one("ValidatingAdmissionPolicyBinding"),
    account: one("ServiceAccount"),
  };
}

test("the policy is about the operator's account and all that it may do to volumes, and fails closed", () => {
  const { policy, binding, account } = policyOf();
  expect(policy.spec.failurePolicy).toBe("Fail");
  expect(policy.spec.matchConstraints.resourceRules).toEqual([
    {
      apiGroups: [""],
      apiVersions: ["v1"],
      operations: ["CREATE", "UPDATE", "DELETE"],
      resources: ["persistentvolumes"],
    },
  ]);
  expect(policy.spec.matchConditions.map(({ expression }: Named) => expression)).toEqual([
    `request.userInfo.username == 'system:serviceaccount:vmrestore-system:${account.metadata.name}'`,
  ]);
  expect(binding.spec).toEqual({ policyName: policy.metadata.name, validationActions: ["Deny"] });
});

test("its expressions name nothing that is not there, are balanced, and tell people what is wrong", () => {
  const { variables, validations } = policyOf().policy.spec as { variables: Named[]; validations: Named[] };
  const defined = new Set<string>();
  const check = (expression: string) => {
    for (const [, name = ""] of expression.matchAll(/variables\.(\w+)/g)) expect(defined).toContain(name);
    const bare = expression.replace(/'[^']*'/g, "''");
    let depth = 0;
    for (const letter of bare) {
      if ("([{".includes(letter)) depth++;
      if (")]}".includes(letter)) depth--;
      expect(depth).toBeGreaterThanOrEqual(0);
    }
    expect(depth).toBe(0);
    // Without has(), a field that is not there is an error, and nobody reads what it says.
    for (const [, field = ""] of bare.matchAll(/spec\.(claimRef|storageClassName|persistentVolumeReclaimPolicy)\b/g))
      expect(bare).toContain(`has(variables.volume.spec.${field})`);
  };
  for (const { name, expression } of variables) {
    check(expression);
    defined.add(name);
  }
  for (const { expression, message } of validations) {
    check(expression);
    expect(message).toMatch(/^The operator may only .*\.$/);
  }
  expect(validations.length).toBeGreaterThanOrEqual(5);
});

test("what volumes of repositories may be made of is a value, and the policy can be left out", () => {
  const sources = (values: object) =>
    (policyOf(values).policy.spec.variables as Named[]).find(({ name }) => name === "repositorySources")?.expression;
  expect(sources({})).toBe("[]");
  expect(sources({ volumePolicy: { enabled: true, repositorySources: ["hostPath"] } })).toBe('["hostPath"]');
  const kinds = render({ volumePolicy: { enabled: false }, claimPolicy: { enabled: false } }).map(({ kind }) => kind);
  expect(kinds.filter((kind) => kind.startsWith("Validating"))).toEqual([]);
});

/** A volume as the operator makes it. */
async function served(): Promise<Volume> {
  const world = new World();
  world.restore();
  await play(world, phaseIs("Relocating"));
  const [volume] = world.cluster.all(VOLUMES);
  if (volume === undefined) throw new Error("no volume was made");
  const { name, labels = {} } = volume.metadata;
  return { ...volume, metadata: { name, labels } };
}

function kubectl(kubeconfig: string, input: object, ...args: string[]): Promise<string> {
  return new Promise((resolve) => {
    const child = execFile("kubectl", ["--kubeconfig", kubeconfig, ...args, "-f", "-"], (error, stdout, stderr) =>
      resolve(error === null ? stdout : stderr),
    );
    child.stdin?.end(JSON.stringify(input));
  });
}

test("of claims the operator may change two labels, and the policy that says so names what exists", () => {
  const [policy, binding] = render({}).filter(({ metadata }) => metadata.name.endsWith("-claims")) as [
    Rendered,
    Rendered,
  ];
  expect(policy.spec.matchConstraints.resourceRules).toEqual([
    { apiGroups: [""], apiVersions: ["v1"], operations: ["UPDATE"], resources: ["persistentvolumeclaims"] },
  ]);
  const { variables } = policy.spec as { variables: Named[] };
  const own = variables.find(({ name }) => name === "own")?.expression;
  expect(own).toBe(`['${STATE_LABEL}', '${SET_ASIDE_LABEL}']`);
  expect([binding.kind, binding.spec.policyName]).toEqual(["ValidatingAdmissionPolicyBinding", policy.metadata.name]);
});

if ((process.env.KUBEBUILDER_ASSETS ?? "") !== "") {
  test("a real API server lets the operator change those labels, and nothing else of a claim", async () => {
    const plane = await startTestControlPlane();
    try {
      const objects = render({}).filter(({ metadata }) => metadata.name.endsWith("-claims"));
      const account = policyOf().account.metadata.name;
      for (const object of objects) await kubectl(plane.kubeconfigPath, object, "create");
      const role = { apiGroups: [""], resources: ["persistentvolumeclaims"], verbs: ["get", "update", "patch"] };
      const subject = { kind: "ServiceAccount", name: account, namespace: "vmrestore-system" };
      const group = "rbac.authorization.k8s.io";
      for (const object of [
        { apiVersion: `${group}/v1`, kind: "ClusterRole", metadata: { name: "claims" }, rules: [role] },
        {
          apiVersion: `${group}/v1`,
          kind: "ClusterRoleBinding",
          metadata: { name: "claims" },
          roleRef: { apiGroup: group, kind: "ClusterRole", name: "claims" },
          subjects: [subject],
        },
      ])
        await kubectl(plane.kubeconfigPath, object, "create");
      const claim = {
        apiVersion: "v1",
        kind: "PersistentVolumeClaim",
        metadata: {
          name: "state",
          namespace: "default",
          labels: { [STATE_LABEL]: "db", app: "db" } as Record<string, string>,
          annotations: { a: "b" },
        },
        spec: { accessModes: ["ReadWriteOnce"], resources: { requests: { storage: "10Mi" } } },
      };
      // The server adds a finalizer and defaults: what is put is what was read.
      const made = JSON.parse(await kubectl(plane.kubeconfigPath, claim, "create", "-o", "json")) as typeof claim;
      const as = `--as=system:serviceaccount:vmrestore-system:${account}`;
      const put = (metadata: object, spec: object = {}) =>
        kubectl(
          plane.kubeconfigPath,
          { ...made, metadata: { ...made.metadata, ...metadata }, spec: { ...made.spec, ...spec } },
          ...["replace", "--dry-run=server", as],
        );
      const end = Date.now() + 30_000;
      while (!(await put({ annotations: { a: "c" } })).includes("denied"))
        if (Date.now() > end) throw new Error("the policy is never in force");
      expect(await put({ labels: { app: "db", [SET_ASIDE_LABEL]: "1" } })).toContain("replaced");
      expect(await put({ labels: { app: "db", [STATE_LABEL]: "other" } })).toContain("replaced");
      for (const bad of [
        { labels: { [STATE_LABEL]: "db" } },
        { labels: { app: "other", [STATE_LABEL]: "db" } },
        { labels: { ...claim.metadata.labels, more: "x" } },
        { annotations: undefined },
        { finalizers: ["example.org/held", "kubernetes.io/pvc-protection"] },
        { ownerReferences: [{ apiVersion: "v1", kind: "ConfigMap", name: "a", uid: "1" }] },
      ])
        expect(await put(bad)).toContain("denied");
      expect(await put({}, { resources: { requests: { storage: "20Mi" } } })).not.toContain("replaced");
    } finally {
      await plane.close();
    }
  }, 120_000);

  test("a real API server lets the operator make and delete its own volumes, and no others", async () => {
    const plane = await startTestControlPlane();
    try {
      const { policy, binding, account } = policyOf();
      const objects = [policy, binding, ...render({}).filter(({ kind }) => /^ClusterRole/.test(kind))];
      for (const object of objects) await kubectl(plane.kubeconfigPath, object, "create");
      const as = `--as=system:serviceaccount:${OWN}:${account.metadata.name}`;
      const make = (volume: object) => kubectl(plane.kubeconfigPath, volume, "create", "--dry-run=server", as);
      const good = await served();
      const uid = good.metadata.labels?.["vmrestore.io/restore-uid"] ?? "";
      // A policy takes a moment until it is in force.
      const end = Date.now() + 30_000;
      while (!(await make({ ...good, metadata: { ...good.metadata, name: "other" } })).includes("denied"))
        if (Date.now() > end) throw new Error("the policy is never in force");
      expect(await make(good)).toContain("created");
      const spec = good.spec ?? {};
      const { nfs, ...rest } = spec;
      for (const bad of [
        { ...good, metadata: { ...good.metadata, labels: {} } },
        { ...good, metadata: { ...good.metadata, name: `vmr-${uid.replace(/^./, "0")}x-root` } },
        { ...good, spec: { ...rest, hostPath: { path: "/etc" } } },
        { ...good, spec: { ...spec, persistentVolumeReclaimPolicy: "Delete" } },
        { ...good, spec: { ...spec, storageClassName: "fast" } },
        { ...good, spec: { ...spec, claimRef: { ...spec.claimRef, namespace: "kube-system" } } },
        { ...good, spec: { ...spec, claimRef: undefined } },
      ]) {
        expect(await make(bad)).toContain("denied");
      }
      expect(nfs).toBeDefined();
      const foreign = { ...good, metadata: { name: "somebody-elses" } };
      for (const volume of [good, foreign])
        expect(await kubectl(plane.kubeconfigPath, volume, "create")).toContain("created");
      const remove = (volume: object) => kubectl(plane.kubeconfigPath, volume, "delete", "--dry-run=server", as);
      expect(await remove(foreign)).toContain("denied");
      expect(await remove(good)).toContain("deleted");
    } finally {
      await plane.close();
    }
  }, 120_000);
}
