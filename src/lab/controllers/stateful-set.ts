import { createHash } from "node:crypto";
import { isReady } from "./job.ts";
import { PODS, STATEFUL_SETS, type StatefulSet, VOLUME_CLAIMS } from "./kinds.ts";
import {
  controllerKey,
  controllerReference,
  isControlledBy,
  type LabContext,
  ownKey,
  runLabController,
} from "./lab-controller.ts";

const REVISION = "controller-revision-hash";

/** Keeps each StatefulSet's pods: same names, one after the other, replaced when they end or the template changes. */
export function runStatefulSetController(context: LabContext, signal: AbortSignal): Promise<void> {
  const { cluster } = context;
  const reconcile = async (namespace: string, name: string): Promise<undefined> => {
    const set = await cluster.get(STATEFUL_SETS, namespace, name);
    if (set === undefined || set.metadata.deletionTimestamp !== undefined) return;
    const replicas = set.spec.replicas ?? 1;
    const revision = revisionOf(set);
    let ready = 0;
    let current = 0;
    for (let ordinal = 0; ordinal < replicas; ordinal++) {
      const pod = await cluster.get(PODS, namespace, `${name}-${ordinal}`);
      if (pod === undefined) {
        await createClaims(context, set, ordinal);
        await cluster.create(PODS, podOf(set, ordinal, revision) as never);
        break; // the next one when this one is ready
      }
      if (!isControlledBy(pod, set)) break;
      current++;
      const isOver = pod.status?.phase === "Failed" || pod.status?.phase === "Succeeded";
      const isOld = pod.metadata.labels?.[REVISION] !== revision;
      if ((isOver || isOld) && pod.metadata.deletionTimestamp === undefined) await cluster.delete(PODS, pod);
      if (!isReady(pod) || isOver || isOld) break;
      ready++;
    }
    for (const pod of await cluster.list(PODS, namespace)) {
      const ordinal = Number(pod.metadata.name.slice(name.length + 1));
      if (isControlledBy(pod, set) && ordinal >= replicas && pod.metadata.deletionTimestamp === undefined)
        await cluster.delete(PODS, pod);
    }
    await cluster.applyStatus(STATEFUL_SETS, {
      apiVersion: "apps/v1",
      kind: "StatefulSet",
      metadata: { name, namespace },
      status: {
        observedGeneration: set.metadata.generation ?? 1,
        replicas: current,
        readyReplicas: ready,
        availableReplicas: ready,
        currentReplicas: current,
        updatedReplicas: current,
        currentRevision: `${name}-${revision}`,
        updateRevision: `${name}-${revision}`,
      },
    });
  };
  const watches = [
    { type: STATEFUL_SETS, keys: ownKey },
    { type: PODS, keys: controllerKey("StatefulSet") },
  ];
  return runLabController({ name: "stateful-set", watches, reconcile }, context, signal);
}

function revisionOf(set: StatefulSet): string {
  return createHash("sha256").update(JSON.stringify(set.spec.template)).digest("hex").slice(0, 10);
}

function claimName(set: StatefulSet, template: string, ordinal: number): string {
  return `${template}-${set.metadata.name}-${ordinal}`;
}

async function createClaims({ cluster }: LabContext, set: StatefulSet, ordinal: number): Promise<void> {
  for (const template of set.spec.volumeClaimTemplates ?? []) {
    const name = claimName(set, template.metadata.name, ordinal);
    if ((await cluster.get(VOLUME_CLAIMS, set.metadata.namespace, name)) !== undefined) continue;
    await cluster.create(VOLUME_CLAIMS, {
      apiVersion: "v1",
      kind: "PersistentVolumeClaim",
      metadata: {
        ...template.metadata,
        name,
        ...(set.metadata.namespace === undefined ? {} : { namespace: set.metadata.namespace }),
      },
      spec: template.spec,
    });
  }
}

function podOf(set: StatefulSet, ordinal: number, revision: string): object {
  const { template, volumeClaimTemplates = [], serviceName } = set.spec;
  const name = `${set.metadata.name}-${ordinal}`;
  const claims = volumeClaimTemplates.map(({ metadata }) => ({
    name: metadata.name,
    persistentVolumeClaim: { claimName: claimName(set, metadata.name, ordinal) },
  }));
  const labels = {
    "statefulset.kubernetes.io/pod-name": name,
    "apps.kubernetes.io/pod-index": String(ordinal),
    [REVISION]: revision,
  };
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name,
      namespace: set.metadata.namespace,
      labels: { ...template.metadata?.labels, ...labels },
      annotations: template.metadata?.annotations ?? {},
      ownerReferences: [controllerReference(set)],
    },
    spec: {
      ...template.spec,
      hostname: name,
      ...(serviceName === undefined ? {} : { subdomain: serviceName }),
      volumes: [...(template.spec.volumes ?? []), ...claims],
    },
  };
}
