import * as z from "zod";
import { diskFormat } from "./disk-format.ts";

/**
 * What `vmrestore inspect` finds in a repository. The operator runs it as a Job and reads it back from the container's
 * termination message, so the whole of it stays under 4,096 bytes of JSON: no manifest, only what sizing and checks need.
 */

const inspectedDisk = z.strictObject({
  /** The VM's volume name. */
  name: z.string(),
  path: z.string(),
  format: diskFormat,
  /** Bytes of the virtual disk. */
  size: z.int(),
});

export const inspection = z.strictObject({
  repository: z
    .strictObject({
      id: z.string(),
      version: z.int(),
      snapshots: z.int(),
      /** When the newest snapshot was made, RFC 3339. */
      latest: z.string().optional(),
      /** Snapshots beside those that cannot be read; left out where there are none. */
      damagedSnapshots: z.int().optional(),
    })
    .optional(),
  snapshot: z
    .strictObject({
      id: z.string(),
      time: z.string(),
      host: z.string(),
      /** The VirtualMachine's name in the snapshot's manifest, where it holds one. */
      virtualMachine: z.string().optional(),
      /** Disks of the request that the manifest has no volume for. */
      withoutVolume: z.array(z.string()).optional(),
      disks: z.array(inspectedDisk),
      /** Bytes of data blobs that the disks refer to, zeros left out, each blob once. */
      dataBytes: z.int(),
    })
    .optional(),
  /** Set when something was wrong; then the rest holds what was found until then. */
  error: z.strictObject({ code: z.string(), message: z.string(), hint: z.string().optional() }).optional(),
});

/** Which snapshot is meant: exactly one of the two. */
const snapshotSelector = z
  .strictObject({
    /** A snapshot's id or the beginning of one. */
    id: z
      .string()
      .regex(/^[0-9a-f]{4,64}$/)
      .optional(),
    /** The newest one that fits everything given; pins of this product never count. */
    latest: z
      .strictObject({
        host: z.string().min(1).max(256).optional(),
        /** Only snapshots made before it, ISO 8601. */
        before: z.iso.datetime({ offset: true }).optional(),
        /** Every one of them is on the snapshot. */
        tags: z.array(z.string().min(1).max(256)).max(16).optional(),
        /** One of the paths that were backed up. */
        path: z.string().min(1).max(4096).optional(),
      })
      .optional(),
  })
  .refine(({ id, latest }) => (id === undefined) !== (latest === undefined), "exactly one of id and latest");

/**
 * What `vmrestore inspect --selector` takes. Without `disks` (an empty list asks for the manifest only), they are those of the snapshot's VirtualMachine manifest
 * (`virtualmachine.yaml` or `.json`, anywhere) that lie beside it as `disks/<volume name>.img` (or `.raw`, `.qcow2`, `.vmdk`, `.vhd`, `.vhdx`); where none do, or there is no manifest,
 * the files that the names of the volumes and of their claims lead to (media-agent/disk-search.ts). Their format is told by name and content.
 */
export const inspectionRequest = z.strictObject({
  snapshot: snapshotSelector,
  disks: z
    .array(
      z.strictObject({
        name: z.string().min(1).max(63),
        /** May be a pattern: `*`, `?`, `**`. Exactly one file has to fit. */
        path: z.string().min(1).max(4096),
        format: z.union([diskFormat, z.literal("auto")]).default("auto"),
      }),
    )
    .max(64)
    .optional(),
  /** The machine's volumes that are disks, where its manifest is not the snapshot's. */
  volumes: z
    .array(z.strictObject({ name: z.string().min(1).max(63), claim: z.string().min(1).max(253).optional() }))
    .max(64)
    .optional(),
});

export type InspectionRequest = z.input<typeof inspectionRequest>;
export type Inspection = z.infer<typeof inspection>;
