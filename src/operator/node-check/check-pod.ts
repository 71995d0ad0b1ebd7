import { createHash } from "node:crypto";
import { LABELS } from "../../api/group.ts";
import type { Node } from "../kinds.ts";
import type { Manifest } from "../runtime/objects.ts";
import { CONTAINER_SECURITY, type OperatorSettings, POD_SECURITY } from "../settings.ts";

/** Which node a check pod is for, and which start of it: a node may have another kernel after the next. */
export const NODE_ANNOTATIONS = { node: "vmrestore.io/node", bootId: "vmrestore.io/node-boot-id" } as const;
/** Seconds that the kubelet gives it. */
export const CHECK_SECONDS = 120;

const CONTAINER = "check";
const RESULT_PATH = "/dev/termination-log";
const HOST_ROOT = "/host";
/** All that is seen of the node, read-only; `/proc` shows its kernel anyway. Each is there on every usual Linux. */
const HOST_PATHS = { bin: "/bin", sbin: "/sbin", modules: "/lib/modules", sysfs: "/sys/fs" } as const;

/** The same for a node each time, so that there is never a second one of it. */
export function checkPodName(node: string): string {
  return `vmrestore-node-${createHash("sha256").update(node).digest("hex").slice(0, 12)}`;
}

/**
 * A pod that looks at one node and ends. It runs as nobody in particular, without capabilities, and sees four folders of the node, and
 * its network: from there the kubelet mounts. The scheduler binds it, so that it never takes what the node does not have.
 */
export function checkPod(node: Node, settings: OperatorSettings): Manifest {
  const { name } = node.metadata;
  const { fsGroup: _, fsGroupChangePolicy: __, ...security } = POD_SECURITY;
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name: checkPodName(name),
      namespace: settings.namespace,
      labels: { [LABELS.nodeCheck]: "true", "app.kubernetes.io/name": "vmrestore-node-check" },
      annotations: { [NODE_ANNOTATIONS.node]: name, [NODE_ANNOTATIONS.bootId]: node.status?.nodeInfo?.bootID ?? "" },
    },
    spec: {
      restartPolicy: "Never",
      activeDeadlineSeconds: CHECK_SECONDS,
      terminationGracePeriodSeconds: 0,
      automountServiceAccountToken: false,
      hostNetwork: true,
      securityContext: security,
      tolerations: [{ operator: "Exists" }],
      affinity: {
        nodeAffinity: {
          requiredDuringSchedulingIgnoredDuringExecution: {
            nodeSelectorTerms: [{ matchFields: [{ key: "metadata.name", operator: "In", values: [name] }] }],
          },
        },
      },
      containers: [
        {
          name: CONTAINER,
          image: settings.image,
          command: ["vmrestore", "check-node"],
          args: [
            ...Object.entries(HOST_PATHS).flatMap(([option, path]) => [`--${option}`, `${HOST_ROOT}${path}`]),
            ...["--result", RESULT_PATH],
          ],
          terminationMessagePath: RESULT_PATH,
          terminationMessagePolicy: "File",
          // What is confined may not see what confines it.
          securityContext: { ...CONTAINER_SECURITY, seLinuxOptions: { type: "spc_t" } },
          resources: { requests: { cpu: "10m", memory: "64Mi" }, limits: { memory: "256Mi" } },
          volumeMounts: Object.entries(HOST_PATHS).map(([volume, path]) => ({
            name: volume,
            mountPath: `${HOST_ROOT}${path}`,
            readOnly: true,
          })),
        },
      ],
      volumes: Object.entries(HOST_PATHS).map(([volume, path]) => ({
        name: volume,
        hostPath: { path, type: "Directory" },
      })),
    },
  };
}
