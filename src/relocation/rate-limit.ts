import type { AgentStatus } from "../api/agent-control.ts";

/**
 * Bytes a second that may be copied now; Infinity: no limit. Once every disk is sealed the guest stands still, and the limit would
 * cost more than it saves.
 *
 * @param disks names of those that are copied
 */
export function rateLimit(
  { relocationLimit, disks: seen }: Pick<AgentStatus, "relocationLimit" | "disks">,
  disks: readonly string[],
): number {
  const areSealed = disks.every((name) => seen.find((disk) => disk.name === name)?.sealed === true);
  return areSealed ? Number.POSITIVE_INFINITY : (relocationLimit ?? Number.POSITIVE_INFINITY);
}
