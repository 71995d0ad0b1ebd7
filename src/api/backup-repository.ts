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

export const backupRepositorySpec = z
  .object({
    local: local.optional(),
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
    checkInterval: duration.default("1h").describe("How often the repository is looked at again."),
  })
  .refine((spec) => spec.local !== undefined, "say where the repository lies: set `local`")
  .meta({
    "x-kubernetes-validations": [{ rule: "has(self.local)", message: "say where the repository lies: set `local`" }],
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
