import { AGENT_PORTS } from "../../api/agent-config.ts";
import type { VMRestore, VMRestoreSpec } from "../../api/vm-restore.ts";
import type { RepositoryMount } from "../backup-repository/mount.ts";
import { type RepositoryPodParts, repositoryAccess } from "../inspection-job.ts";
import { TELL_FAILURE } from "../pod-failure.ts";
import type { Manifest } from "../runtime/objects.ts";
import { CONTAINER_SECURITY, type OperatorSettings, POD_SECURITY } from "../settings.ts";
import { restoreLabels, restoreNames } from "./names.ts";
import type { Plan } from "./plan.ts";
import { FULL_ON_PURPOSE } from "./quiet-claims.ts";

const DIRECTORIES = {
  overlay: "/overlay",
  cache: "/cache",
  tls: "/etc/vmrestore/tls",
  config: "/etc/vmrestore/config",
  temporary: "/tmp",
} as const;

/** The media agent of one restore: everything in the operator's namespace. */
export function agentObjects(restore: VMRestore, spec: VMRestoreSpec, plan: Plan, settings: OperatorSettings) {
  const names = restoreNames(restore, spec.virtualMachine.name);
  const labels = { ...restoreLabels(restore), "app.kubernetes.io/name": "vmrestore-media-agent" };
  const inNamespace = (name: string) => ({ name, namespace: settings.namespace, labels });
  return {
    service: (address: string | undefined) => service(inNamespace(names.agent), labels, address),
    // One writer, on whatever node: the lock and epoch of the overlay are the second fence.
    overlay: claim(inNamespace(names.overlay), "ReadWriteOncePod", plan.overlay),
    // The cache uses what it has. An overlay that fills up is news, and its claim's alert is wanted.
    cache: claim(
      { ...inNamespace(names.cache), labels: { ...labels, ...FULL_ON_PURPOSE } },
      "ReadWriteOnce",
      plan.cache,
    ),
    statefulSet: statefulSet(inNamespace(names.agent), names, labels, spec, plan, settings),
  };
}

/** How the agent reaches all its repositories; a pod has one identity, which is the same for all that need one. */
function allAccess(mounts: readonly RepositoryMount[]): RepositoryPodParts {
  const parts = mounts.map((mount, index) => repositoryAccess(mount, index));
  return {
    args: parts.flatMap(({ args }) => args),
    volumes: parts.flatMap(({ volumes }) => volumes),
    volumeMounts: parts.flatMap(({ volumeMounts }) => volumeMounts),
    identity: Object.assign({}, ...parts.map(({ identity }) => identity)),
  };
}

interface Metadata {
  name: string;
  namespace: string;
  labels: Record<string, string>;
}

/** @param address the one it had before, when it has to be made again: mounts know no other */
function service(metadata: Metadata, selector: Record<string, string>, address: string | undefined): Manifest {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata,
    spec: {
      type: "ClusterIP",
      ...(address === undefined ? {} : { clusterIP: address }),
      selector,
      // A starting agent answers late rather than not at all: clients wait instead of being refused.
      publishNotReadyAddresses: true,
      ports: Object.entries(AGENT_PORTS).map(([name, port]) => ({ name, port, targetPort: port, protocol: "TCP" })),
    },
  };
}

function claim(
  metadata: Metadata,
  accessMode: string,
  size: { bytes: number; storageClassName?: string | undefined },
): Manifest {
  return {
    apiVersion: "v1",
    kind: "PersistentVolumeClaim",
    metadata,
    spec: {
      accessModes: [accessMode],
      volumeMode: "Filesystem",
      ...(size.storageClassName === undefined ? {} : { storageClassName: size.storageClassName }),
      resources: { requests: { storage: String(size.bytes) } },
    },
  };
}

function statefulSet(
  metadata: Metadata,
  names: ReturnType<typeof restoreNames>,
  labels: Record<string, string>,
  spec: VMRestoreSpec,
  plan: Plan,
  settings: OperatorSettings,
): Manifest {
  const access = allAccess([plan.mount, ...(plan.otherMounts ?? [])]);
  const { resources, nodeSelector, tolerations } = spec.mediaAgent;
  const probe = (path: string) => ({ httpGet: { path, port: "metrics" }, periodSeconds: 5, timeoutSeconds: 3 });
  return {
    apiVersion: "apps/v1",
    kind: "StatefulSet",
    metadata,
    spec: {
      replicas: 1,
      serviceName: names.agent,
      selector: { matchLabels: labels },
      // A running machine's disk is not restarted because the operator was upgraded.
      updateStrategy: { type: "OnDelete" },
      template: {
        metadata: { labels },
        spec: {
          ...access.identity,
          automountServiceAccountToken: false,
          enableServiceLinks: false,
          securityContext: POD_SECURITY,
          terminationGracePeriodSeconds: 60,
          ...(nodeSelector === undefined ? {} : { nodeSelector }),
          ...(tolerations === undefined ? {} : { tolerations }),
          containers: [
            {
              name: "media-agent",
              image: settings.image,
              command: ["vmrestore", "media-agent"],
              args: [
                "--config",
                `${DIRECTORIES.config}/config.json`,
                ...access.args,
                "--overlay-dir",
                DIRECTORIES.overlay,
                "--cache-dir",
                DIRECTORIES.cache,
                "--tls-dir",
                DIRECTORIES.tls,
                ...(plan.hasProfile ? ["--profile-file", `${DIRECTORIES.config}/profile.json`] : []),
                "--listen-address",
                "$(POD_IP)",
                "--node",
                "$(NODE_NAME)",
              ],
              env: [
                { name: "POD_IP", valueFrom: { fieldRef: { fieldPath: "status.podIP" } } },
                { name: "NODE_NAME", valueFrom: { fieldRef: { fieldPath: "spec.nodeName" } } },
              ],
              ports: Object.entries(AGENT_PORTS).map(([name, containerPort]) => ({ name, containerPort })),
              // Not by /readyz: it waits for a repository for as long as that takes, and kubelet would kill it meanwhile.
              startupProbe: { ...probe("/healthz"), failureThreshold: 120 },
              readinessProbe: probe("/readyz"),
              livenessProbe: { ...probe("/healthz"), failureThreshold: 6 },
              ...TELL_FAILURE,
              securityContext: CONTAINER_SECURITY,
              resources: resources ?? { requests: { cpu: "500m", memory: "512Mi" } },
              volumeMounts: [
                ...access.volumeMounts,
                { name: "overlay", mountPath: DIRECTORIES.overlay },
                { name: "cache", mountPath: DIRECTORIES.cache },
                { name: "tls", mountPath: DIRECTORIES.tls, readOnly: true },
                { name: "config", mountPath: DIRECTORIES.config, readOnly: true },
                { name: "temporary", mountPath: DIRECTORIES.temporary },
              ],
            },
          ],
          volumes: [
            ...access.volumes,
            { name: "overlay", persistentVolumeClaim: { claimName: names.overlay } },
            { name: "cache", persistentVolumeClaim: { claimName: names.cache } },
            { name: "tls", secret: { secretName: names.tls, defaultMode: 0o440 } },
            { name: "config", secret: { secretName: names.plan, defaultMode: 0o440 } },
            { name: "temporary", emptyDir: {} },
          ],
        },
      },
    },
  };
}
