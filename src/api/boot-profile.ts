import * as z from "zod";

/** Characters of a disk's extents and marks together, over all disks: a profile stays well below the 1 MiB of a Secret. */
export const PROFILE_TEXT_LIMIT = 768 * 1024;

/**
 * The extents that a VM reads while it boots, per disk: what it reads each time first, else in the order in which it first read
 * them. Kept in a `VMProfile` and handed to the media agent as `--profile-file`.
 */
export const bootProfile = z
  .strictObject({
    /** How many successful boots were merged into it. */
    boots: z.int().positive(),
    disks: z
      .array(
        z.strictObject({
          name: z.string().min(1).max(63),
          /** Bytes of the disk it was learned from. */
          size: z.int().positive(),
          /**
           * `offset+length` pairs in 4 KiB pages, base 36, joined by commas: `0+2,1k+8*h,3+1!`. `*h` is the score from this pair on, 10
           * before: each boot takes a quarter of it away, and adds 10 if it read the pages. `!` marks pages that boots read whatever
           * they hold.
           */
          extents: z
            .string()
            .max(512 * 1024)
            .regex(/^([0-9a-z]+\+[0-9a-z]+(\*[0-9a-z]+)?!?(,[0-9a-z]+\+[0-9a-z]+(\*[0-9a-z]+)?!?)*)?$/),
          /**
           * What the pages held: `distance:mark` pairs, joined by commas. A mark, the first 24 bits of a blob's id, holds from its page
           * to that of the next one.
           */
          content: z
            .string()
            .max(256 * 1024)
            .regex(/^([0-9a-z]+:[\w-]{4}(,[0-9a-z]+:[\w-]{4})*)?$/)
            .optional(),
        }),
      )
      .max(64),
  })
  .refine(({ disks }) => textLength(disks) <= PROFILE_TEXT_LIMIT, {
    error: "the disks' extents are too long together",
  });

export type BootProfile = z.infer<typeof bootProfile>;

function textLength(disks: readonly { readonly extents: string; readonly content?: string | undefined }[]): number {
  return disks.reduce((sum, { extents, content = "" }) => sum + extents.length + content.length, 0);
}
