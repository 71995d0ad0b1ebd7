import { isIPv6 } from "node:net";
import { AGENT_PORTS } from "../../api/agent-config.ts";
import { LABELS } from "../../api/group.ts";
import type { VMRestore } from "../../api/vm-restore.ts";
import type { Manifest } from "../runtime/objects.ts";
import { restoreLabels, restoreNames } from "./names.ts";
import { FULL_ON_PURPOSE } from "./quiet-claims.ts";

/**
 * The volume and claim of a disk that the media agent serves. ReadWriteMany is what makes KubeVirt take it for shared storage;
 * the capacity is the disk's own size, so that KubeVirt sees no room to grow the image into.
 */
export function servedVolume(
  restore: VMRestore,
  machine: string,
  disk: { readonly name: string; readonly size: number },
  server: { readonly address: string; readonly exportPath: string },
): { volume: Manifest; claim: Manifest } {
  const names = restoreNames(restore, machine).served(disk.name);
  const labels = { ...restoreLabels(restore), [LABELS.disk]: disk.name };
  const namespace = restore.metadata.namespace ?? "";
  const storage = String(disk.size);
  return {
    volume: {
      apiVersion: "v1",
      kind: "PersistentVolume",
      metadata: { name: names.volume, labels },
      spec: {
        capacity: { storage },
        accessModes: ["ReadWriteMany"],
        volumeMode: "Filesystem",
        persistentVolumeReclaimPolicy: "Retain",
        storageClassName: "",
        mountOptions: mountOptions(AGENT_PORTS.nfs, isIPv6(server.address)),
        claimRef: { apiVersion: "v1", kind: "PersistentVolumeClaim", namespace, name: names.claim },
        nfs: { server: server.address, path: server.exportPath },
      },
    },
    claim: {
      apiVersion: "v1",
      kind: "PersistentVolumeClaim",
      // The agent tells that nothing is free, so that KubeVirt does not grow the image.
      metadata: { name: names.claim, namespace, labels: { ...labels, ...FULL_ON_PURPOSE } },
      spec: {
        storageClassName: "",
        volumeName: names.volume,
        accessModes: ["ReadWriteMany"],
        volumeMode: "Filesystem",
        resources: { requests: { storage } },
      },
    },
  };
}

/** One port for everything: no portmapper, no lock manager. */
function mountOptions(port: number, isVersion6: boolean): string[] {
  // Linux refuses a `mountproto` that is not of the server's family; `tcp` stands for either.
  const mountProtocol = isVersion6 ? "tcp6" : "tcp";
  return ["nfsvers=3", "tcp", "nolock", `port=${port}`, `mountport=${port}`, `mountproto=${mountProtocol}`, "hard"];
}
