import * as z from "zod";

/** Names of machines that are kept, for people. */
const NAMES_LIMIT = 64;

/**
 * Which of an export's mounts may write. Mounts are numbered in the order in which they are made, and their handles bear the number:
 * a mount takes over from all earlier ones with its first write, for good.
 */
export const writerFence = z.strictObject({
  /** How many mounts there have been: the number of the last one. */
  mounts: z.int().nonnegative(),
  /** The mount that has written last; 0 is one made before mounts were numbered. Absent: none has. */
  writer: z.int().nonnegative().optional(),
  /** Who made the last ones, as they said themselves. */
  machines: z.array(z.strictObject({ mount: z.int().positive(), name: z.string() })),
});

export type WriterFence = Readonly<z.infer<typeof writerFence>>;

export const NO_MOUNTS: WriterFence = { mounts: 0, machines: [] };

/** One more mount; its number is `mounts`. */
export function mounted(fence: WriterFence, name: string): WriterFence {
  const mount = fence.mounts + 1;
  const machines = [...fence.machines, { mount, name }];
  // The writer is kept: it may be long ago that it mounted.
  const excess = machines.length > NAMES_LIMIT ? machines.findIndex((machine) => machine.mount !== fence.writer) : -1;
  return { ...fence, mounts: mount, machines: machines.filter((_, index) => index !== excess) };
}

/** Whether a mount may write: it did last, or takes over if it writes now, or a later one has taken over from it. */
export function admission({ writer }: WriterFence, mount: number): "writer" | "successor" | "superseded" {
  if (writer === mount) return "writer";
  return writer === undefined || mount > writer ? "successor" : "superseded";
}

/** The mount takes over. */
export function takenOver(fence: WriterFence, mount: number): WriterFence {
  return admission(fence, mount) === "successor" ? { ...fence, writer: mount } : fence;
}

/** The name of the machine that made a mount; empty where it is not known. */
export function machineOf({ machines }: WriterFence, mount: number | undefined): string {
  return machines.find((machine) => machine.mount === mount)?.name ?? "";
}
