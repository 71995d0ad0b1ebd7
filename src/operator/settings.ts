/** What the operator is told at its start. */
export interface OperatorSettings {
  /** Where the operator, the media agents, their claims and their keys live. */
  readonly namespace: string;
  /** The image of every pod that it makes: its own. */
  readonly image: string;
  /**
   * The service account, in the operator's namespace, of pods that read S3 without a Secret: its identity is what they are known by
   * there. Undefined: no repository may be read so. Whoever may create a BackupRepository can read with it, so the rights that
   * belong to it are those of all tenants.
   */
  readonly s3ServiceAccount?: string;
  /** How many restores of one namespace may be under way at once, 1 at least; undefined: any number. */
  readonly maxRestoresPerNamespace?: number;
  /** False: each media agent fetches for itself alone. */
  readonly shareBlobs?: boolean;
}

/** The user and group that KubeVirt's launcher runs as, and the owner of `disk.img`. */
export const QEMU_USER = 107;

/** What the restricted Pod Security Standard asks of a pod, and the owner that disks have. */
export const POD_SECURITY = {
  runAsNonRoot: true,
  runAsUser: QEMU_USER,
  runAsGroup: QEMU_USER,
  fsGroup: QEMU_USER,
  fsGroupChangePolicy: "OnRootMismatch",
  seccompProfile: { type: "RuntimeDefault" },
} as const;

export const CONTAINER_SECURITY = {
  allowPrivilegeEscalation: false,
  readOnlyRootFilesystem: true,
  capabilities: { drop: ["ALL"] },
} as const;
