import { parseQuantity } from "../../api/quantity.ts";
import type { Cluster } from "../../operator/runtime/cluster.ts";
import type { KubernetesObject, ResourceType } from "../../operator/runtime/objects.ts";

const GROUP = "kubevirt.io";
const NAMESPACE = "kubevirt";

interface Definition extends KubernetesObject {
  status?: { conditions?: { type: string; status: string }[] };
}

const DEFINITIONS: ResourceType<Definition> = {
  apiVersion: "apiextensions.k8s.io/v1",
  kind: "CustomResourceDefinition",
  plural: "customresourcedefinitions",
  namespaced: false,
};
interface KubeVirt extends KubernetesObject {
  spec?: {
    workloadUpdateStrategy?: { workloadUpdateMethods?: string[] };
    configuration?: { migrations?: { bandwidthPerMigration?: string } };
  };
}

const LIVE_MIGRATE = "LiveMigrate";
const KUBEVIRTS: ResourceType<KubeVirt> = {
  apiVersion: "kubevirt.io/v1",
  kind: "KubeVirt",
  plural: "kubevirts",
  namespaced: true,
};
const NAMESPACES: ResourceType = { apiVersion: "v1", kind: "Namespace", plural: "namespaces", namespaced: false };

interface Column {
  readonly name: string;
  readonly jsonPath: string;
  readonly type: string;
}

interface KindOptions {
  readonly kind: string;
  readonly shortNames: readonly string[];
  readonly hasStatus: boolean;
  readonly columns: readonly Column[];
}

const AGE: Column = { name: "Age", jsonPath: ".metadata.creationTimestamp", type: "date" };
const PHASE: Column = { name: "Phase", jsonPath: ".status.phase", type: "string" };

function conditionColumn(name: string, type: string): Column {
  return { name, jsonPath: `.status.conditions[?(@.type=='${type}')].status`, type: "string" };
}

/** As KubeVirt defines them, with fields unchecked. A VirtualMachineInstance has no status subresource there either. */
const KINDS: readonly KindOptions[] = [
  {
    ...{ kind: "VirtualMachine", shortNames: ["vm", "vms"], hasStatus: true },
    columns: [
      AGE,
      { name: "Status", jsonPath: ".status.printableStatus", type: "string" },
      conditionColumn("Ready", "Ready"),
    ],
  },
  {
    ...{ kind: "VirtualMachineInstance", shortNames: ["vmi", "vmis"], hasStatus: false },
    columns: [
      AGE,
      PHASE,
      { name: "IP", jsonPath: ".status.interfaces[0].ipAddress", type: "string" },
      { name: "NodeName", jsonPath: ".status.nodeName", type: "string" },
      conditionColumn("Ready", "Ready"),
      conditionColumn("Paused", "Paused"),
    ],
  },
  {
    ...{ kind: "VirtualMachineInstanceMigration", shortNames: ["vmim", "vmims"], hasStatus: true },
    columns: [PHASE, { name: "VMI", jsonPath: ".spec.vmiName", type: "string" }],
  },
  { kind: "KubeVirt", shortNames: ["kv", "kvs"], hasStatus: true, columns: [AGE, PHASE] },
];

function definition({ kind, shortNames, hasStatus, columns }: KindOptions): KubernetesObject & Record<string, unknown> {
  const plural = `${kind.toLowerCase()}s`;
  const anything = { type: "object", "x-kubernetes-preserve-unknown-fields": true };
  return {
    apiVersion: DEFINITIONS.apiVersion,
    kind: DEFINITIONS.kind,
    metadata: { name: `${plural}.${GROUP}` },
    spec: {
      group: GROUP,
      scope: "Namespaced",
      names: { kind, plural, singular: kind.toLowerCase(), listKind: `${kind}List`, shortNames, categories: ["all"] },
      versions: [
        {
          ...{ name: "v1", served: true, storage: true, additionalPrinterColumns: columns },
          schema: { openAPIV3Schema: { type: "object", properties: { spec: anything, status: anything } } },
          ...(hasStatus ? { subresources: { status: {} } } : {}),
        },
      ],
    },
  };
}

/** Makes the cluster look like one with KubeVirt: its kinds, and its own resource saying that it is deployed and migrates live. */
export async function installKubeVirt(cluster: Cluster, sleep: (ms: number) => Promise<void>): Promise<void> {
  for (const options of KINDS) await cluster.apply(DEFINITIONS, definition(options));
  for (const { kind } of KINDS) {
    while (!(await isEstablished(cluster, `${kind.toLowerCase()}s.${GROUP}`))) await sleep(50);
  }
  await cluster.apply(NAMESPACES, { apiVersion: "v1", kind: "Namespace", metadata: { name: NAMESPACE } });
  const kubevirt = {
    apiVersion: KUBEVIRTS.apiVersion,
    kind: KUBEVIRTS.kind,
    metadata: { name: "kubevirt", namespace: NAMESPACE },
  };
  const spec = {
    configuration: { vmRolloutStrategy: "LiveUpdate" },
    workloadUpdateStrategy: { workloadUpdateMethods: [LIVE_MIGRATE] },
  };
  await cluster.apply(KUBEVIRTS, { ...kubevirt, spec });
  await cluster.applyStatus(KUBEVIRTS, {
    ...kubevirt,
    status: { phase: "Deployed", observedKubeVirtVersion: "lab", operatorVersion: "lab" },
  });
}

/** What KubeVirt's own resource says about migrations. */
export async function migrationSettings(cluster: Cluster): Promise<{
  /** Whether machines are migrated because something of them changed. */
  readonly updates: boolean;
  /** Bytes a second of each; undefined: unlimited. */
  readonly bandwidth: number | undefined;
}> {
  const [kubevirt] = await cluster.list(KUBEVIRTS, NAMESPACE);
  const { workloadUpdateStrategy, configuration } = kubevirt?.spec ?? {};
  const bandwidth = parseQuantity(configuration?.migrations?.bandwidthPerMigration ?? "0") ?? 0;
  return {
    updates: workloadUpdateStrategy?.workloadUpdateMethods?.includes(LIVE_MIGRATE) ?? false,
    bandwidth: bandwidth === 0 ? undefined : bandwidth,
  };
}

async function isEstablished(cluster: Cluster, name: string): Promise<boolean> {
  const found = await cluster.get(DEFINITIONS, undefined, name);
  return (found?.status?.conditions ?? []).some(({ type, status }) => type === "Established" && status === "True");
}
