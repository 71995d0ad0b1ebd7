import * as z from "zod";
import { dnsLabel, objectName, timestamp } from "../common.ts";
import { diskFormatChoice } from "../disk-format.ts";
import { byName } from "./lists.ts";

const snapshotSelector = z
  .object({
    id: z
      .string()
      .regex(/^[0-9a-f]{8,64}$/)
      .max(64)
      .optional()
      .describe("A snapshot's id, or at least its first 8 hex digits."),
    latest: z
      .object({
        host: z.string().min(1).max(253).optional().describe("Only snapshots of this host."),
        path: z.string().min(1).max(4096).optional().describe("Only snapshots for which this path was backed up."),
        tags: z.array(z.string().min(1).max(253)).max(16).meta({ "x-kubernetes-list-type": "set" }).optional(),
        before: timestamp.optional().describe("Only snapshots made at or before this time."),
      })
      .optional()
      .describe("The newest snapshot that all of this is true of."),
  })
  .refine((value) => (value.id === undefined) !== (value.latest === undefined), "set exactly one of `id` and `latest`")
  .meta({
    "x-kubernetes-validations": [
      { rule: "has(self.id) != has(self.latest)", message: "set exactly one of `id` and `latest`" },
    ],
  });

const repositoryReference = z
  .object({
    name: objectName,
    namespace: dnsLabel
      .optional()
      .describe(
        "By default this object's. Another one's repository has to name this namespace in its `allowedNamespaces`.",
      ),
  })
  .describe("A BackupRepository.");

const OWN_SNAPSHOT =
  "an id is that of one repository: a disk from another one needs its own `snapshot` where `source.snapshot` is an `id`";

/** The backup that is restored. */
export const source = z
  .object({
    repository: repositoryReference,
    snapshot: snapshotSelector,
    disks: z
      .array(
        z.object({
          name: dnsLabel.describe("The VM's volume."),
          path: z
            .string()
            .min(1)
            .max(4096)
            .regex(/^\/.*$/)
            .describe(
              "The disk's file in the snapshot, absolute. May be a pattern that one file fits: `*` and `?` within a name, `**` for directories in between.",
            ),
          format: diskFormatChoice
            .default("Auto")
            .describe(
              "What the file is. Auto: what its name and its content both say, and one file only. An image of several files (backing files, parents, extents) is opened where its format is named here; all of them are of this snapshot.",
            ),
          repository: repositoryReference
            .optional()
            .describe(
              "Where the disk comes from another repository than the others: VolSync keeps one for each claim.",
            ),
          snapshot: snapshotSelector
            .optional()
            .describe(
              "Where it comes from another snapshot. By default `source.snapshot`, chosen in the disk's own repository.",
            ),
        }),
      )
      .min(1)
      .max(64)
      .meta(byName)
      .optional()
      .describe(
        "Which files are the disks; by default `disks/<volume>.img`, or `.raw`, `.qcow2`, `.vmdk`, `.vhd` or `.vhdx`, beside the manifest; else the files that bear the name of a volume or of its claim, or lie in a directory that does, as VolSync's and K8up's do.",
      ),
  })
  .refine(
    ({ snapshot, disks }) =>
      snapshot.id === undefined ||
      (disks ?? []).every((disk) => disk.repository === undefined || disk.snapshot !== undefined),
    OWN_SNAPSHOT,
  )
  .meta({
    "x-kubernetes-validations": [
      {
        rule: "!has(self.snapshot.id) || !has(self.disks) || self.disks.all(disk, !has(disk.repository) || has(disk.snapshot))",
        message: OWN_SNAPSHOT,
      },
    ],
  });
