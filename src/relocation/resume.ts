import type { DiskStatus } from "../api/agent-control.ts";
import type { Marker } from "./marker.ts";

/** What a Job that starts has to do for a disk. */
export type Plan =
  /** It was done, and the disk is still sealed: the VM may run from the target, so only look. */
  | { readonly kind: "compare" }
  /** The target holds everything below `cursor` that was there when it was copied; later writes are in the dirty bitmap. */
  | { readonly kind: "resume"; readonly cursor: number; readonly target: string }
  | { readonly kind: "fresh" };

/** Whether the disk's relocation is over. Nobody may write to the target any more. */
export function isDone({ sealed, relocation }: Pick<DiskStatus, "sealed" | "relocation">): boolean {
  return sealed && relocation?.state === "Done";
}

/**
 * Decides whether an earlier run's work counts. Only where the target's own marker names the relocation that the agent's
 * durable cursor belongs to: a new claim, or one that was used for something else, bears none or another.
 */
export function planRelocation(
  status: Pick<DiskStatus, "sealed" | "relocation" | "size">,
  marker: Marker | undefined,
): Plan {
  if (isDone(status)) return { kind: "compare" };
  const { relocation, size } = status;
  if (relocation === undefined || marker === undefined) return { kind: "fresh" };
  if (relocation.target !== marker.target || marker.size !== size || relocation.cursor > size) return { kind: "fresh" };
  return { kind: "resume", cursor: relocation.cursor, target: marker.target };
}
