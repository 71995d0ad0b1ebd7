import * as z from "zod";

/**
 * The extents that a VM reads while it boots, in the order it first read them, per disk. Kept in a `VMProfile` and handed
 * to the media agent as `--profile-file`.
 */
export const bootProfile = z.strictObject({
  /** How many successful boots were merged into it. */
  boots: z.int().positive(),
  disks: z
    .array(
      z.strictObject({
        name: z.string().min(1).max(63),
        /** Bytes of the disk it was learned from. */
        size: z.int().positive(),
        /** `offset+length` pairs in 4 KiB pages, base 36, joined by commas: `0+2,1k+8`. */
        extents: z
          .string()
          .max(256 * 1024)
          .regex(/^([0-9a-z]+\+[0-9a-z]+(,[0-9a-z]+\+[0-9a-z]+)*)?$/),
      }),
    )
    .max(64),
});

export type BootProfile = z.infer<typeof bootProfile>;
