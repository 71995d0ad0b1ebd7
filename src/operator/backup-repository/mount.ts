import type { BackupRepository, BackupRepositorySpec } from "../../api/backup-repository.ts";
import { LABELS } from "../../api/group.ts";
import type { Claim, Secret, Volume } from "../kinds.ts";
import type { Manifest } from "../runtime/objects.ts";

/** How pods in the operator's namespace reach a repository that lies in a tenant's. */
export interface RepositoryMount {
  readonly claimName: string;
  readonly secretName: string;
  /** Below the volume's root. */
  readonly path?: string | undefined;
}

export function mountName(repository: BackupRepository): string {
  return `repository-${repository.metadata.uid}`;
}

export function repositoryMount(repository: BackupRepository, spec: BackupRepositorySpec): RepositoryMount {
  const name = mountName(repository);
  const path = spec.local?.path;
  return { claimName: name, secretName: name, ...(path === undefined ? {} : { path }) };
}

export type VolumeSource =
  | { readonly source: Record<string, unknown> }
  | { readonly problem: string; readonly reason: string };

/**
 * What a second PersistentVolume needs to lead to the same place. Only what is bound to this very claim is followed: else a
 * claim could be used to reach a volume that its namespace was never given.
 */
export function volumeSource(claim: Claim | undefined, volume: Volume | undefined, claimName: string): VolumeSource {
  if (claim === undefined) {
    return {
      reason: "ClaimNotFound",
      problem: `There is no claim ${claimName} in this namespace. Create it, or correct spec.local.claimName.`,
    };
  }
  if (claim.spec?.volumeMode === "Block") {
    return {
      reason: "UnsupportedVolume",
      problem: `Claim ${claimName} is a block volume. A repository needs a filesystem.`,
    };
  }
  const reference = volume?.spec?.claimRef;
  if (
    volume === undefined ||
    reference?.uid !== claim.metadata.uid ||
    claim.spec?.volumeName !== volume.metadata.name
  ) {
    return {
      reason: "ClaimNotBound",
      problem: `Claim ${claimName} is not bound to a volume yet. See \`kubectl describe pvc ${claimName}\`.`,
    };
  }
  for (const kind of ["nfs", "hostPath", "local"] as const) {
    const source = volume.spec?.[kind];
    if (source === undefined) continue;
    const { nodeAffinity, mountOptions } = volume.spec ?? {};
    return {
      source: {
        [kind]: source,
        ...(nodeAffinity === undefined ? {} : { nodeAffinity }),
        ...(mountOptions === undefined ? {} : { mountOptions }),
      },
    };
  }
  return {
    reason: "UnsupportedVolume",
    problem: `The volume of claim ${claimName} is neither nfs nor hostPath nor local, so it cannot be mounted from the operator's namespace. Serve the repository over NFS.`,
  };
}

/** The second volume, its claim in the operator's namespace, and the copy of the password. */
export function mountObjects(
  repository: BackupRepository,
  options: {
    readonly source: Record<string, unknown>;
    readonly volume: Volume;
    readonly password: string;
    readonly namespace: string;
  },
): { volume: Manifest; claim: Manifest; secret: Manifest } {
  const name = mountName(repository);
  const labels = { [LABELS.repositoryUid]: repository.metadata.uid ?? "" };
  const storage = options.volume.spec?.capacity?.storage ?? "1Gi";
  const accessModes = options.volume.spec?.accessModes ?? ["ReadWriteMany"];
  return {
    volume: {
      apiVersion: "v1",
      kind: "PersistentVolume",
      metadata: { name, labels },
      spec: {
        ...options.source,
        capacity: { storage },
        accessModes,
        persistentVolumeReclaimPolicy: "Retain",
        storageClassName: "",
        claimRef: { apiVersion: "v1", kind: "PersistentVolumeClaim", namespace: options.namespace, name },
      },
    },
    claim: {
      apiVersion: "v1",
      kind: "PersistentVolumeClaim",
      metadata: { name, namespace: options.namespace, labels },
      spec: { storageClassName: "", volumeName: name, accessModes, resources: { requests: { storage } } },
    },
    secret: passwordSecret(name, options.namespace, labels, options.password),
  };
}

function passwordSecret(name: string, namespace: string, labels: Record<string, string>, password: string): Manifest {
  return {
    apiVersion: "v1",
    kind: "Secret",
    metadata: { name, namespace, labels },
    type: "Opaque",
    data: { password },
  };
}

/** The password of a Secret as it stands there (base64), or what is wrong with it. */
export function passwordOf(
  secret: Secret | undefined,
  reference: BackupRepositorySpec["credentialsSecretRef"],
): { readonly password: string } | { readonly problem: string; readonly reason: string } {
  if (secret === undefined) {
    return {
      reason: "SecretNotFound",
      problem: `There is no Secret ${reference.name} in this namespace. Create it with the repository's password under the key ${reference.key}.`,
    };
  }
  const password = secret.data?.[reference.key];
  if (password === undefined || password === "") {
    return {
      reason: "PasswordMissing",
      problem: `Secret ${reference.name} has no key ${reference.key}. Put the repository's password there.`,
    };
  }
  return { password };
}
