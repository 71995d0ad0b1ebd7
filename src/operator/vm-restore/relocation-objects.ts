import { LABELS } from "../../api/group.ts";
import type { VMRestore, VMRestoreSpec } from "../../api/vm-restore.ts";
import type { VirtualMachine } from "../kinds.ts";
import { TELL_FAILURE } from "../pod-failure.ts";
import type { Manifest } from "../runtime/objects.ts";
import { CONTAINER_SECURITY, type OperatorSettings, POD_SECURITY } from "../settings.ts";
import { type RestoreKeys, tlsSecret } from "./keys.ts";
import { restoreLabels, restoreNames } from "./names.ts";
import { FULL_ON_PURPOSE } from "./quiet-claims.ts";
import { targetSize } from "./sizing.ts";

const TLS_DIRECTORY = "/etc/vmrestore/tls";

/** Where one disk goes. */
export interface Target {
  readonly disk: string;
  readonly claimName: string;
  readonly volumeMode: "Filesystem" | "Block";
  readonly accessMode: "ReadWriteOnce" | "ReadWriteMany";
  readonly storageClassName: string | undefined;
  readonly size: { readonly bytes: number } | { readonly problem: string };
}

export function targetOf(spec: VMRestoreSpec, disk: { readonly name: string; readonly size: number }): Target {
  const { perDisk, ...common } = spec.relocation.target;
  const own = perDisk?.find(({ name }) => name === disk.name);
  const volumeMode = own?.volumeMode ?? common.volumeMode ?? "Filesystem";
  return {
    disk: disk.name,
    claimName: own?.claimName ?? `${spec.virtualMachine.name}-${disk.name}${beside(spec)}`,
    volumeMode,
    accessMode: own?.accessMode ?? common.accessMode ?? "ReadWriteOnce",
    storageClassName: own?.storageClassName ?? common.storageClassName,
    size: targetSize(own?.size, disk.size, volumeMode),
  };
}

/** The old machine's own claims often bear the plain name. */
function beside({ replace }: VMRestoreSpec): string {
  return replace === undefined ? "" : `-${replace.confirmUid.slice(0, 8)}`;
}

export function targetClaim(restore: VMRestore, target: Target, bytes: number): Manifest {
  return {
    apiVersion: "v1",
    kind: "PersistentVolumeClaim",
    metadata: {
      name: target.claimName,
      namespace: restore.metadata.namespace ?? "",
      // One file fills the filesystem; a block volume has none that anybody could measure.
      labels: {
        ...restoreLabels(restore),
        [LABELS.disk]: target.disk,
        ...(target.volumeMode === "Filesystem" ? FULL_ON_PURPOSE : {}),
      },
    },
    spec: {
      accessModes: [target.accessMode],
      volumeMode: target.volumeMode,
      ...(target.storageClassName === undefined ? {} : { storageClassName: target.storageClassName }),
      resources: { requests: { storage: String(bytes) } },
    },
  };
}

/** The certificate that the Job shows the agent. It opens this restore's agent only, and there the relocation's part only. */
export function relocationSecret(restore: VMRestore, keys: RestoreKeys): Manifest {
  const { namespace } = restore.metadata;
  return tlsSecret(
    restoreNames(restore, "").relocation,
    namespace ?? "",
    restoreLabels(restore),
    keys.ca,
    keys.relocation,
  );
}

/**
 * The Job that copies the disks. It runs in the machine's namespace, because a pod mounts claims of its own namespace only, and
 * where the machine may run, so that a target that binds to its first consumer binds where the machine can use it.
 */
export function relocationJob(options: {
  readonly restore: VMRestore;
  readonly spec: VMRestoreSpec;
  readonly targets: readonly Target[];
  /** The machine, for its placement. */
  readonly machine: VirtualMachine | undefined;
  readonly address: string;
  readonly settings: OperatorSettings;
}): Manifest {
  const { restore, spec, targets, machine, address, settings } = options;
  const { nodeSelector, tolerations, affinity } = machine?.spec?.template?.spec ?? {};
  const name = restoreNames(restore, "").relocation;
  const labels = restoreLabels(restore);
  const places = targets.map(({ disk, volumeMode }, index) => ({
    disk,
    isBlock: volumeMode === "Block",
    volume: `target-${index}`,
    path: volumeMode === "Block" ? `/dev/target-${index}` : `/target/${index}`,
  }));
  return {
    apiVersion: "batch/v1",
    kind: "Job",
    metadata: { name, namespace: restore.metadata.namespace ?? "", labels },
    spec: {
      // A pod that died is replaced by the Job; a Job that gave up is replaced by the operator.
      backoffLimit: 3,
      // The default makes the next one beside a pod that is ending still, on a node that does not answer perhaps: what that read long ago
      // could come to a shared target after what the next one has copied since.
      podReplacementPolicy: "Failed",
      template: {
        metadata: { labels: { ...labels, "app.kubernetes.io/name": "vmrestore-relocation" } },
        spec: {
          restartPolicy: "Never",
          automountServiceAccountToken: false,
          enableServiceLinks: false,
          securityContext: POD_SECURITY,
          ...(nodeSelector === undefined ? {} : { nodeSelector }),
          ...(tolerations === undefined ? {} : { tolerations }),
          ...(affinity === undefined ? {} : { affinity }),
          containers: [
            {
              name: "relocate",
              image: settings.image,
              command: ["vmrestore", "relocate"],
              args: [
                "--agent",
                address,
                "--tls-dir",
                TLS_DIRECTORY,
                ...places.flatMap(({ disk, path }) => ["--disk", `${disk}=${path}`]),
                ...(spec.relocation.cutover.verify ? ["--verify"] : []),
              ],
              ...TELL_FAILURE,
              securityContext: CONTAINER_SECURITY,
              resources: { requests: { cpu: "250m", memory: "256Mi" } },
              volumeMounts: [
                { name: "tls", mountPath: TLS_DIRECTORY, readOnly: true },
                ...places
                  .filter((place) => !place.isBlock)
                  .map(({ volume, path }) => ({ name: volume, mountPath: path })),
              ],
              volumeDevices: places
                .filter((place) => place.isBlock)
                .map(({ volume, path }) => ({ name: volume, devicePath: path })),
            },
          ],
          volumes: [
            { name: "tls", secret: { secretName: name, defaultMode: 0o440 } },
            ...places.map(({ volume }, index) => ({
              name: volume,
              persistentVolumeClaim: { claimName: targets[index]?.claimName },
            })),
          ],
        },
      },
    },
  };
}
