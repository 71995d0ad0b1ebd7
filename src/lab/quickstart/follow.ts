import { setTimeout as delay } from "node:timers/promises";
import type { VMRestoreStatus } from "../../api/vm-restore-status.ts";
import { VmRestoreError } from "../../base/errors.ts";
import { formatBytes } from "../../base/format-bytes.ts";
import type { Cluster } from "./cluster.ts";
import type { Output } from "./output.ts";
import { progressBar } from "./timeline.ts";

const LOOK_EVERY_MS = 400;

/** The restore did not come to its end. */
class RestoreFailedError extends VmRestoreError {
  constructor(status: VMRestoreStatus) {
    super("RESTORE_FAILED", `the restore failed: ${status.message ?? "no reason was given"}`, {
      hint: "kubectl describe vmrestore shows its conditions and events.",
    });
  }
}

/**
 * Shows what a VMRestore says of itself until it has come as far as `until`.
 *
 * @throws RestoreFailedError where it fails
 */
export async function followRestore(
  cluster: Cluster,
  name: string,
  until: (status: VMRestoreStatus) => boolean,
  output: Output,
  signal: AbortSignal,
): Promise<VMRestoreStatus> {
  let phase: string | undefined;
  for (;;) {
    const status = await cluster.restoreStatus(name);
    if (status !== undefined) {
      if (status.phase !== phase) output.line(inWords(status));
      phase = status.phase;
      if (status.phase === "Failed") throw new RestoreFailedError(status);
      if (until(status)) return status;
      output.progress(describeProgress(status));
    }
    await delay(LOOK_EVERY_MS, undefined, { signal });
  }
}

/** One line on where a restore stands. */
export function describeProgress(status: VMRestoreStatus): string {
  const { bootSet, relocation, phase } = status;
  if (relocation !== undefined && phase === "Relocating") {
    const disks = status.disks ?? [];
    const isLive = status.strategy === "LiveMigration";
    const bytesOf = (disk: (typeof disks)[number]): number =>
      disk.bytesRelocated ?? (isLive ? (disk.bytesRead ?? 0) : 0);
    const done = disks.reduce((sum, disk) => sum + bytesOf(disk), 0);
    const what = isLive ? "read by the live migration" : "durable at the target";
    const total = disks.reduce((sum, disk) => sum + (disk.bytesTotal ?? 0), 0);
    const rate = relocation.bytesPerSecond === undefined ? "" : `, ${formatBytes(relocation.bytesPerSecond)}/s`;
    return `relocating ${progressBar(relocation.percent / 100, 24)} ${relocation.percent} %  ${formatBytes(done)} of ${formatBytes(total)} ${what}${rate}${done < total ? "" : whatRemains(status)}`;
  }
  if (bootSet !== undefined && bootSet.bytes > 0 && phase === "Staging") {
    return `staging    ${progressBar(bootSet.bytesStaged / Math.max(1, bootSet.bytes), 24)} ${formatBytes(bootSet.bytesStaged)} of ${formatBytes(bootSet.bytes)}`;
  }
  return inWords(status);
}

function inWords({ phase, message }: VMRestoreStatus): string {
  return `${phase ?? "Pending"}: ${message ?? "the operator has not looked at it yet"}`;
}

/** Of a copy whose every byte is durable once, and which is not over. */
function whatRemains({ disks = [], relocation }: VMRestoreStatus): string {
  if (relocation?.percent === 100) return "";
  const dirty = disks.reduce((sum, disk) => sum + (disk.bytesDirty ?? 0), 0);
  return dirty > 0
    ? `; ${formatBytes(dirty)} written since are still to be copied`
    : "; the last pass and the comparison remain";
}
