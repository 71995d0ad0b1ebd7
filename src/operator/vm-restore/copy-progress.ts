import type { DiskStatus, RelocationProgress } from "../../api/agent-control.ts";
import type { Action } from "../actions.ts";
import type { Observed } from "./observed.ts";

// What the media agent was told of a copy by the relocation Job.

const NOTHING_COPIED: RelocationProgress = { cursor: 0, bytesTotal: 0, bytesDurable: 0, rate: 0, state: "FirstPass" };

export function diskStatus({ agent }: Observed, disk: string): DiskStatus | undefined {
  return agent.status?.disks.find(({ name }) => name === disk);
}

export function progressOf(observed: Observed, disk: string): RelocationProgress | undefined {
  return diskStatus(observed, disk)?.relocation;
}

export function hasProgress(progress: RelocationProgress | undefined): boolean {
  return progress !== undefined && (progress.cursor > 0 || progress.bytesDurable > 0 || progress.state !== "FirstPass");
}

/** Nothing of a disk counts as copied any more. */
export function copyAnew(disk: string): Action {
  return { do: "agent", what: `copy ${disk} anew`, call: (agent) => agent.reportRelocation(disk, NOTHING_COPIED) };
}

/** Bytes, of all disks, that were written since they were copied. */
export function dirtyBytes({ agent }: Observed): number {
  return (agent.status?.disks ?? []).reduce((sum, disk) => sum + disk.dirtyBytes, 0);
}
