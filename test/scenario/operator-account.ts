import { readFile, writeFile } from "node:fs/promises";
import { KubeConfig } from "@kubernetes/client-node";
import { parse, stringify } from "yaml";
import { systemClock } from "../../src/base/clock.ts";
import type { ControlPlane } from "../../src/lab/control-plane.ts";
import { type ResourceType, resourcePath } from "../../src/operator/runtime/objects.ts";
import { RestCluster } from "../../src/operator/runtime/rest-cluster.ts";
import { Transport } from "../../src/operator/runtime/transport.ts";
import { type Rendered, render } from "./chart.ts";

/** What the chart installs that decides what the operator may do. */
const KINDS: Readonly<Record<string, { readonly plural: string; readonly namespaced: boolean }>> = {
  ServiceAccount: { plural: "serviceaccounts", namespaced: true },
  ClusterRole: { plural: "clusterroles", namespaced: false },
  ClusterRoleBinding: { plural: "clusterrolebindings", namespaced: false },
  Role: { plural: "roles", namespaced: true },
  RoleBinding: { plural: "rolebindings", namespaced: true },
  ValidatingAdmissionPolicy: { plural: "validatingadmissionpolicies", namespaced: false },
  ValidatingAdmissionPolicyBinding: { plural: "validatingadmissionpolicybindings", namespaced: false },
};
const NAMESPACES: ResourceType = { apiVersion: "v1", kind: "Namespace", plural: "namespaces", namespaced: false };
const IN_FORCE_WITHIN_MS = 30_000;

/** The chart's values where the repository is a folder of this machine, as the lab's is. */
export const REPOSITORY_ON_THIS_MACHINE = { volumePolicy: { enabled: true, repositorySources: ["hostPath"] } };

/**
 * The kubeconfig that an operator under test gets. On a real API server it acts as the chart's account, with the chart's roles and
 * policies in force: what the chart does not allow is refused there. The lab's own API server knows neither.
 *
 * @param plane its kubeconfig is of somebody who may do everything
 * @param values the chart's
 */
export async function operatorKubeconfig(
  plane: { readonly kind: ControlPlane["kind"]; readonly kubeconfigPath: string },
  values: object = {},
): Promise<string> {
  const { kind, kubeconfigPath } = plane;
  if (kind === "own") return kubeconfigPath;
  const transport = transportTo(kubeconfigPath);
  try {
    const token = await install(transport, values);
    const config = parse(await readFile(kubeconfigPath, "utf8")) as { users: { user: object }[] };
    for (const user of config.users) user.user = { token };
    const path = `${kubeconfigPath}.operator`;
    await writeFile(path, stringify(config), { mode: 0o600 });
    await untilInForce(path);
    return path;
  } finally {
    transport.close();
  }
}

function transportTo(kubeconfig: string): Transport {
  const config = new KubeConfig();
  config.loadFromFile(kubeconfig);
  return new Transport(config);
}

/** @returns a token of the account */
async function install(transport: Transport, values: object): Promise<string> {
  const cluster = new RestCluster(transport, new AbortController().signal, "chart");
  const objects = render(values).filter(({ kind }) => KINDS[kind] !== undefined);
  const account = objects.find(({ kind }) => kind === "ServiceAccount");
  if (account === undefined) throw new Error("the chart has no account");
  const { name, namespace = "" } = account.metadata;
  await cluster.apply(NAMESPACES, { apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } });
  for (const object of objects) await cluster.apply(typeOf(object), object as never);
  const answer = await transport.request({
    method: "POST",
    path: `${resourcePath(typeOf(account), namespace, name)}/token`,
    body: { apiVersion: "authentication.k8s.io/v1", kind: "TokenRequest", spec: { expirationSeconds: 3600 } },
  });
  return (answer as { status: { token: string } }).status.token;
}

function typeOf({ kind, apiVersion }: Rendered): ResourceType {
  const { plural = "", namespaced = false } = KINDS[kind] ?? {};
  return { apiVersion, kind, plural, namespaced };
}

/** A policy takes a moment until it is in force: until then a volume of nobody's would be let through. */
async function untilInForce(kubeconfig: string): Promise<void> {
  const transport = transportTo(kubeconfig);
  const spec = { capacity: { storage: "1Gi" }, accessModes: ["ReadWriteOnce"], hostPath: { path: "/etc" } };
  const body = { apiVersion: "v1", kind: "PersistentVolume", metadata: { name: "nobodys" }, spec };
  const path = "/api/v1/persistentvolumes?dryRun=All";
  try {
    for (const end = systemClock.monotonic() + IN_FORCE_WITHIN_MS; ; await systemClock.sleep(100)) {
      const said = await transport.request({ method: "POST", path, body }).then(
        () => "let through",
        (error: unknown) => String(error),
      );
      if (said.includes("The operator may only")) return;
      if (systemClock.monotonic() > end) throw new Error(`the chart's policy is not in force: ${said}`);
    }
  } finally {
    transport.close();
  }
}
