import * as z from "zod";
import { diskFormat } from "./disk-format.ts";

/**
 * What the operator tells a media agent, as a JSON file in the Secret that is mounted into its pod. Secrets (password,
 * keys) come in files of their own. Every file path comes by argument or environment, never in here: the node that runs
 * the pod decides where a volume lies.
 */

export const backendConfig = z.strictObject({
  /** A restic repository in a mounted volume; its directory comes by `--repository-dir`. */
  local: z.strictObject({}).optional(),
  /** One behind restic's REST server protocol. */
  rest: z.strictObject({ url: z.url({ protocol: /^https?$/ }).max(2048) }).optional(),
  /** One in a bucket. */
  s3: z
    .strictObject({
      bucket: z.string().min(3).max(63),
      prefix: z.string().max(1024).optional(),
      region: z.string().min(1).max(32),
      endpoint: z
        .url({ protocol: /^https?$/ })
        .max(1024)
        .optional(),
      addressing: z.enum(["Path", "VirtualHost"]).optional(),
      /** It is read with the pod's own identity; else with keys from files, and never without them. */
      podIdentity: z.boolean().optional(),
    })
    .optional(),
});

/** Where a repository lies: exactly one of the three. Credentials are no part of it: they come as files. */
export type BackendConfig = z.infer<typeof backendConfig>;

export const diskConfig = z.strictObject({
  /** The VM's volume name, and the NBD export's name. */
  name: z.string().min(1).max(63),
  /** Absolute path of the disk's file in the snapshot. */
  path: z.string().min(1).max(4096),
  format: diskFormat,
  /** Bytes of the virtual disk. The agent refuses to serve a disk of another size. */
  size: z.int().positive(),
  /** Which snapshot it is of: 0 for `snapshot`, from 1 on those of `otherSnapshots`. */
  snapshot: z.int().nonnegative().optional(),
});

/** How many repositories one agent reads: each keeps an index in memory. */
export const REPOSITORIES_LIMIT = 8;

const snapshotId = z.string().regex(/^[0-9a-f]{64}$/);

export const agentConfig = z.strictObject({
  restore: z.strictObject({ namespace: z.string(), name: z.string(), uid: z.string() }),
  /** Fences an older agent out of the overlay: an agent refuses state of a higher epoch. */
  epoch: z.int().nonnegative(),
  repository: backendConfig,
  snapshot: z.strictObject({
    /** Full id, 64 hex digits. */
    id: snapshotId,
    /** Write a pin snapshot, so that forget and prune leave the data alone. */
    pin: z.boolean(),
  }),
  /** Further repositories: their disks come from elsewhere than the manifest does. */
  otherRepositories: z
    .array(backendConfig)
    .max(REPOSITORIES_LIMIT - 1)
    .optional(),
  /** Further snapshots. `repository`: 0 for `repository`, from 1 on those of `otherRepositories`. */
  otherSnapshots: z
    .array(z.strictObject({ id: snapshotId, repository: z.int().nonnegative() }))
    .max(63)
    .optional(),
  disks: z.array(diskConfig).min(1).max(64),
  cache: z.strictObject({ sizeBytes: z.int().positive() }),
  /** Addresses and networks (CIDR) that may connect over NFS; everybody unless given. */
  nfsClients: z.array(z.string().max(64)).max(64).optional(),
  /**
   * After how many milliseconds a request for a disk with timers of its own (SATA, SCSI, USB) is answered with an error, so that QEMU
   * pauses the guest before the guest gives its disk up. Guests wait 30 s and more; 20,000 unless it says otherwise.
   */
  answerLimitMs: z.int().min(100).max(25_000).optional(),
  repositorySlots: z.int().min(2).max(256).default(8),
});

export type AgentConfig = z.infer<typeof agentConfig>;

/**
 * Files in the Secret that pods read a repository with, each with nothing but the value. All but the password may be missing.
 */
export const REPOSITORY_FILES = {
  password: "password",
  httpUsername: "http-username",
  httpPassword: "http-password",
  s3AccessKeyId: "s3-access-key-id",
  s3SecretAccessKey: "s3-secret-access-key",
  s3SessionToken: "s3-session-token",
  caBundle: "ca.crt",
} as const;

/** Ports of a media agent's pod and Service. */
export const AGENT_PORTS = { nfs: 2049, nbd: 10809, control: 8443, peers: 8444, metrics: 9464 } as const;
