import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { KubeConfig } from "@kubernetes/client-node";
import { parse } from "yaml";
import { systemClock } from "../../src/base/clock.ts";
import { type ControlPlane, startControlPlane } from "../../src/lab/control-plane.ts";
import { NAMESPACES, VM_RESTORES } from "../../src/operator/kinds.ts";
import type { Manifest, ResourceType } from "../../src/operator/runtime/objects.ts";
import { RestCluster } from "../../src/operator/runtime/rest-cluster.ts";
import { Transport } from "../../src/operator/runtime/transport.ts";

const ROOT = join(import.meta.dirname, "../..");
const DEFINITIONS: ResourceType = {
  apiVersion: "apiextensions.k8s.io/v1",
  kind: "CustomResourceDefinition",
  plural: "customresourcedefinitions",
  namespaced: false,
};
const LEASE = { apiVersion: "coordination.k8s.io/v1", kind: "Lease" };
const LEASES: ResourceType = { ...LEASE, plural: "leases", namespaced: true };
/** What the operator watches of KubeVirt. */
const KUBEVIRT_KINDS = [
  ["VirtualMachine", "virtualmachines"],
  ["VirtualMachineInstance", "virtualmachineinstances"],
] as const;

/** An API server with everything that an operator needs to run beside it, and a client of it. */
export interface OperatorCluster {
  readonly plane: ControlPlane;
  readonly transport: Transport;
  readonly cluster: RestCluster;
  close(): Promise<void>;
}

/**
 * @param folder for the kubeconfig
 * @param namespace the operator's own
 */
export async function startOperatorCluster(folder: string, namespace: string): Promise<OperatorCluster> {
  const plane = await startControlPlane({ kubeconfigPath: join(folder, "kubeconfig") });
  const config = new KubeConfig();
  config.loadFromFile(plane.kubeconfigPath);
  const transport = new Transport(config);
  const cluster = new RestCluster(transport, new AbortController().signal, "test");
  const close = async (): Promise<void> => {
    transport.close();
    await plane.close();
  };
  try {
    await install(cluster, namespace);
  } catch (error) {
    await close();
    throw error;
  }
  return { plane, transport, cluster, close };
}

async function install(cluster: RestCluster, namespace: string): Promise<void> {
  for (const file of await readdir(join(ROOT, "crds")))
    await cluster.create(DEFINITIONS, parse(await readFile(join(ROOT, "crds", file), "utf8")) as Manifest);
  for (const [kind, plural] of KUBEVIRT_KINDS) await cluster.create(DEFINITIONS, kubeVirtDefinition(kind, plural));
  await cluster.create(NAMESPACES as ResourceType, {
    apiVersion: "v1",
    kind: "Namespace",
    metadata: { name: namespace },
  });
  // As the chart puts it: whoever finds it leads at once.
  await cluster.create(LEASES, { ...LEASE, metadata: { name: "vmrestore-operator", namespace } });
  for (;;) {
    const isServed = await cluster.list(VM_RESTORES, undefined).then(
      () => true,
      () => false,
    );
    if (isServed) return;
    await systemClock.sleep(50);
  }
}

function kubeVirtDefinition(kind: string, plural: string): Manifest {
  const schema = { openAPIV3Schema: { type: "object", "x-kubernetes-preserve-unknown-fields": true } };
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: `${plural}.kubevirt.io` },
    spec: {
      group: "kubevirt.io",
      scope: "Namespaced",
      names: { kind, plural, singular: kind.toLowerCase(), listKind: `${kind}List` },
      versions: [{ name: "v1", served: true, storage: true, subresources: { status: {} }, schema }],
    },
  };
}

/** @param limitMs how long it is waited for at most */
export async function until(what: () => Promise<boolean>, limitMs: number): Promise<void> {
  const end = systemClock.monotonic() + limitMs;
  while (!(await what())) {
    if (systemClock.monotonic() > end) throw new Error("it never came to that");
    await systemClock.sleep(50);
  }
}
