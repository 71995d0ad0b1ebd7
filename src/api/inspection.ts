import * as z from "zod";

/**
 * What `vmrestore inspect` finds in a repository. The operator runs it as a Job and reads it back from the container's
 * termination message, so the whole of it stays under 4,096 bytes of JSON: no manifest, only what sizing and checks need.
 */

export const inspectedDisk = z.strictObject({
  /** The VM's volume name. */
  name: z.string(),
  path: z.string(),
  format: z.enum(["raw"]),
  size: z.int(),
});

export const inspection = z.strictObject({
  repository: z
    .strictObject({ id: z.string(), version: z.int(), snapshots: z.int(), latest: z.string().optional() })
    .optional(),
  snapshot: z
    .strictObject({
      id: z.string(),
      time: z.string(),
      host: z.string(),
      /** The VirtualMachine's name in the snapshot's manifest, where it holds one. */
      virtualMachine: z.string().optional(),
      disks: z.array(inspectedDisk),
      /** Bytes of data blobs that the disks refer to, zeros left out, each blob once. */
      dataBytes: z.int(),
    })
    .optional(),
  /** Set when something was wrong; then the rest holds what was found until then. */
  error: z.strictObject({ code: z.string(), message: z.string(), hint: z.string().optional() }).optional(),
});

export type Inspection = z.infer<typeof inspection>;
export type InspectedDisk = z.infer<typeof inspectedDisk>;
