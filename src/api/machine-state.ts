import * as z from "zod";

/**
 * Files that KubeVirt keeps of a machine's firmware and TPM, by their paths on its `persistent-state-for` claim: the variables of EFI,
 * and what swtpm remembers. What it keeps there of changed blocks is about disks that are no more, and is none of it.
 */
export const STATE_FOLDERS = ["nvram", "swtpm", "swtpm-localca"] as const;
/** Directories within one another: swtpm's files lie in one for the machine's UUID and one for the TPM's version. */
export const STATE_DEPTH_LIMIT = 6;
export const STATE_FILES_LIMIT = 64;
/** Bytes of all of them: 4 MiB of EFI variables at most, and some hundred KiB of TPM. */
export const STATE_BYTES_LIMIT = 8 * 1024 * 1024;

/** Neither absolute nor with anything but plain names, none of which begins with a dot. */
export const statePath = z
  .string()
  .max(512)
  .regex(/^(nvram|swtpm|swtpm-localca)(\/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$/);

export const stateListing = z
  .array(z.strictObject({ path: statePath, size: z.int().nonnegative() }))
  .max(STATE_FILES_LIMIT);

export const machineState = z.strictObject({
  files: z
    .array(z.strictObject({ path: statePath, data: z.base64().max(2 * STATE_BYTES_LIMIT) }))
    .max(STATE_FILES_LIMIT),
});

export type StateListing = z.infer<typeof stateListing>;
export type MachineState = z.infer<typeof machineState>;
