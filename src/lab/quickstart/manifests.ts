import { stringify } from "yaml";

/** The names that examples/ uses. */
export const REPOSITORY_CLAIM = "backups";
export const OPERATOR_NAMESPACE = "vmrestore-system";

interface RepositoryPlace {
  /** The restic repository's directory on this machine. */
  readonly directory: string;
  readonly password: string;
}

/** What an administrator has set up already, and the chart, where examples/ are applied: the repository's volume and its password. */
export function repositoryManifests({ directory, password }: RepositoryPlace): string {
  const claim = { apiVersion: "v1", kind: "PersistentVolumeClaim" };
  const objects = [
    { apiVersion: "v1", kind: "Namespace", metadata: { name: OPERATOR_NAMESPACE } },
    // As the chart puts it, without a holder: the operator leads at once.
    {
      apiVersion: "coordination.k8s.io/v1",
      kind: "Lease",
      metadata: { name: "vmrestore-operator", namespace: OPERATOR_NAMESPACE },
    },
    {
      apiVersion: "v1",
      kind: "PersistentVolume",
      metadata: { name: REPOSITORY_CLAIM },
      spec: {
        capacity: { storage: "10Gi" },
        accessModes: ["ReadWriteMany"],
        persistentVolumeReclaimPolicy: "Retain",
        storageClassName: "",
        hostPath: { path: directory },
        claimRef: { namespace: "default", name: REPOSITORY_CLAIM },
      },
    },
    {
      ...claim,
      metadata: { name: REPOSITORY_CLAIM, namespace: "default" },
      spec: {
        accessModes: ["ReadWriteMany"],
        storageClassName: "",
        volumeName: REPOSITORY_CLAIM,
        resources: { requests: { storage: "10Gi" } },
      },
    },
    {
      apiVersion: "v1",
      kind: "Secret",
      metadata: { name: "nightly-password", namespace: "default" },
      type: "Opaque",
      data: { password: Buffer.from(password).toString("base64") },
    },
  ];
  return objects.map((object) => stringify(object)).join("---\n");
}
