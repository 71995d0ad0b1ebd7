import * as z from "zod";
import { byteCount, type Condition, conditions, dnsLabel, type ObjectMeta, objectName, timestamp } from "./common.ts";
import { duration } from "./duration.ts";
import type { API_VERSION } from "./group.ts";

/** A directory below a volume's root: relative, no part of it begins with a dot. */
const relativePath = z
  .string()
  .min(1)
  .max(1024)
  .regex(/^[^/.][^/]*(\/[^/.][^/]*)*$/);

const local = z
  .object({
    claimName: dnsLabel.describe("A bound PersistentVolumeClaim in this namespace that holds the repository."),
    path: relativePath.optional().describe("The repository's directory in the volume; the volume's root by default."),
  })
  .describe(
    "A repository in a volume of the cluster. The volume is mounted from the operator's namespace as well, which is possible for nfs, hostPath and local volumes.",
  );

/** PEM; some hundred certificates at most. */
const caBundle = z
  .string()
  .max(256 * 1024)
  .regex(/-----BEGIN CERTIFICATE-----/)
  .describe("PEM certificates that the server's must be signed by, instead of the well-known authorities.");

/** Never with credentials in it: a spec is no secret. */
const restUrl = z
  .string()
  .max(2048)
  .regex(/^https?:\/\/[^/@?#\s]+(\/[^@?#\s]*)?$/);

const rest = z
  .object({
    url: restUrl.describe("http or https, with the repository's path; user name and password go into the Secret."),
    credentialsSecretRef: z
      .object({ name: objectName })
      .optional()
      .describe("A Secret in this namespace with the keys `username` and `password`, for HTTP basic authentication."),
    caBundle: caBundle.optional(),
  })
  .describe("A repository behind a restic REST server (rest-server, `rclone serve restic`).");

const s3 = z
  .object({
    bucket: z
      .string()
      .min(3)
      .max(63)
      .regex(/^[a-z0-9][a-z0-9.-]*[a-z0-9]$/),
    prefix: relativePath.optional().describe("The repository's folder in the bucket; the bucket's root by default."),
    region: z
      .string()
      .min(1)
      .max(32)
      .regex(/^[a-z0-9-]+$/)
      .default("us-east-1"),
    endpoint: z
      .string()
      .max(1024)
      .regex(/^https?:\/\/[^/@?#\s]+\/?$/)
      .optional()
      .describe("http or https, host and port of a server that speaks S3; AWS's own for the region by default."),
    addressing: z
      .enum(["Path", "VirtualHost"])
      .optional()
      .describe("How the bucket is named: by default as part of the host on AWS, and of the path at other endpoints."),
    credentialsSecretRef: z
      .object({ name: objectName })
      .optional()
      .describe(
        "A Secret in this namespace with the keys `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, and for a session `AWS_SESSION_TOKEN`. Without it the media agent's own identity is used, where the operator allows that.",
      ),
    caBundle: caBundle.optional(),
  })
  .describe("A repository in a bucket of S3, or of a server that speaks its protocol.");

export const backupRepositorySpec = z
  .object({
    local: local.optional(),
    rest: rest.optional(),
    s3: s3.optional(),
    credentialsSecretRef: z
      .object({
        name: objectName,
        key: z
          .string()
          .min(1)
          .max(253)
          .regex(/^[-._a-zA-Z0-9]+$/)
          .default("password"),
      })
      .describe("The Secret in this namespace, and its key, that hold the repository's password."),
    allowedNamespaces: z
      .array(dnsLabel)
      .max(64)
      .meta({ "x-kubernetes-list-type": "set" })
      .optional()
      .describe(
        "Other namespaces whose VMRestores may restore from this repository: every snapshot in it, its machines' Secrets among them.",
      ),
    maxConcurrentRestores: z
      .int()
      .min(1)
      .max(1000)
      .optional()
      .describe(
        "How many restores from it may be under way at once; others wait, first come, first served. One that only waits for people, is on trial, or is a live mount whose guest is ready does not count. By default any number.",
      ),
    checkInterval: duration.default("1h").describe("How often the repository is looked at again."),
  })
  .refine(
    ({ local, rest, s3 }) => [local, rest, s3].filter((place) => place !== undefined).length === 1,
    "say where the repository lies: set exactly one of `local`, `rest` and `s3`",
  )
  .meta({
    "x-kubernetes-validations": [
      {
        rule: "[has(self.local), has(self.rest), has(self.s3)].exists_one(set, set)",
        message: "say where the repository lies: set exactly one of `local`, `rest` and `s3`",
      },
    ],
  });

export const backupRepositoryStatus = z.object({
  observedGeneration: z.int().nonnegative().optional(),
  conditions: conditions.optional(),
  id: z.string().max(64).optional().describe("The repository's own id."),
  formatVersion: z.int().nonnegative().optional().describe("restic's repository format, 1 or 2."),
  snapshots: byteCount.optional().describe("How many snapshots it holds."),
  latestSnapshotTime: timestamp.optional(),
  lastCheckTime: timestamp.optional(),
});

export type BackupRepositorySpec = z.infer<typeof backupRepositorySpec>;
export type BackupRepositoryStatus = z.infer<typeof backupRepositoryStatus>;

/** As read from the API server: `spec` is what was sent and is parsed before use. */
export interface BackupRepository {
  apiVersion: typeof API_VERSION;
  kind: "BackupRepository";
  metadata: ObjectMeta;
  spec: unknown;
  status?: BackupRepositoryStatus & { conditions?: Condition[] };
}
