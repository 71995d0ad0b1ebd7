import type { BackendConfig } from "../../api/agent-config.ts";
import type { BackupRepository, BackupRepositorySpec } from "../../api/backup-repository.ts";
import { LABELS } from "../../api/group.ts";
import type { Claim, Volume } from "../kinds.ts";
import type { Manifest } from "../runtime/objects.ts";
import type { OperatorSettings } from "../settings.ts";

/** How pods in the operator's namespace reach a tenant's repository. */
export interface RepositoryMount {
  /** Where it lies; credentials are no part of it. */
  readonly backend: BackendConfig;
  /** Holds the password and the credentials, in files as `REPOSITORY_FILES` names them. */
  readonly secretName: string;
  /** Of a repository in a volume. */
  readonly claimName?: string | undefined;
  /** Below the volume's root. */
  readonly path?: string | undefined;
  /** Whose identity the pods have, where there is no Secret for S3. */
  readonly serviceAccountName?: string | undefined;
}

/** On everything that is made for a repository in the operator's namespace. */
export function mountLabels(repository: BackupRepository): Record<string, string> {
  return { [LABELS.repositoryUid]: repository.metadata.uid ?? "" };
}

export function mountName(repository: BackupRepository): string {
  return mountNameOf(repository.metadata.uid ?? "");
}

/** @param uid of a BackupRepository */
export function mountNameOf(uid: string): string {
  return `repository-${uid}`;
}

/** @param settings for a repository that is read with the pods' own identity */
export function repositoryMount(
  repository: BackupRepository,
  { local, rest, s3 }: BackupRepositorySpec,
  settings: OperatorSettings,
): RepositoryMount {
  const name = mountName(repository);
  const secretName = name;
  if (rest !== undefined) return { secretName, backend: { rest: { url: rest.url } } };
  if (s3 === undefined) {
    const path = local?.path;
    return { secretName, backend: { local: {} }, claimName: name, ...(path === undefined ? {} : { path }) };
  }
  const { bucket, prefix, region, endpoint, addressing, credentialsSecretRef } = s3;
  const isOwn = credentialsSecretRef === undefined;
  return {
    secretName,
    backend: {
      s3: {
        bucket,
        region,
        ...(prefix === undefined ? {} : { prefix }),
        ...(endpoint === undefined ? {} : { endpoint }),
        ...(addressing === undefined ? {} : { addressing }),
        ...(isOwn ? { podIdentity: true } : {}),
      },
    },
    ...(isOwn && settings.s3ServiceAccount !== undefined ? { serviceAccountName: settings.s3ServiceAccount } : {}),
  };
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

/** The second volume and its claim in the operator's namespace. */
export function mountObjects(
  repository: BackupRepository,
  options: {
    readonly source: Record<string, unknown>;
    readonly volume: Volume;
    readonly namespace: string;
  },
): { volume: Manifest; claim: Manifest } {
  const name = mountName(repository);
  const labels = mountLabels(repository);
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
  };
}
