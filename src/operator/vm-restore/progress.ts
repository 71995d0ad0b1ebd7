import type { VMRestoreStatus } from "../../api/vm-restore-status.ts";

/** Bounds, in milliseconds, between two writes of mere progress. */
const INTERVAL_MS = { least: 2000, most: 60_000 };

/**
 * How long a status that differs from the written one by numbers only may wait to be written: a twentieth of the time that the phase
 * has lasted, so what people read is never off by more than that, within bounds. Undefined: it says something new, or is the same.
 *
 * @param now milliseconds since the epoch
 */
export function progressWait(written: VMRestoreStatus, status: VMRestoreStatus, now: number): number | undefined {
  if (JSON.stringify(withoutNumbers(written)) !== JSON.stringify(withoutNumbers(status))) return undefined;
  const since = status.timeline?.find(({ finishedAt }) => finishedAt === undefined)?.startedAt;
  const lasted = since === undefined ? 0 : now - Date.parse(since);
  return Math.min(INTERVAL_MS.most, Math.max(INTERVAL_MS.least, lasted / 20));
}

/** What a status says besides how much of it there is. */
function withoutNumbers(status: VMRestoreStatus): object {
  const { bootSet, relocation, mediaAgent, disks, message, conditions, ...rest } = status;
  return {
    ...rest,
    message: worded(message),
    conditions: conditions?.map((condition) => ({ ...condition, message: worded(condition.message) })),
    bootSet: bootSet?.source,
    isRelocated: relocation === undefined ? undefined : relocation.percent === 100,
    mediaAgent: { ...mediaAgent, bytesFetched: undefined, bytesFromPeers: undefined },
    disks: disks?.map(({ name, size }) => ({ name, size })),
  };
}

/** A sentence without its amounts: `3.2 GiB of 10 GiB` says the same as `512 B of 10 GiB`. */
function worded(message: string | undefined): string | undefined {
  return message?.replace(/\d+([.,]\d+)*( ?([KMGTP]i?B|bytes|B)\b)?/g, "#");
}
