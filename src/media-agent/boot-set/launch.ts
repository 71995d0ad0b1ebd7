/**
 * What a machine needs at least from its start to its first reads beyond the boot loader: a pod, a QEMU, firmware. Milliseconds.
 * Staging that will be through by then is ahead of the guest all the way: it goes in the order in which the guest reads.
 */
const HEAD_START_MS = 3000;
/** A rate is not known before. */
const MEASURED_AFTER_MS = 100;

export interface Staging {
  /** All was looked at. */
  readonly complete: boolean;
  /** Bytes of the boot set; 0 until it was chosen. */
  readonly total: number;
  readonly staged: number;
  /** Bytes that came from the repository since the boot set is looked for and staged: for it, for the search, or for a guest. */
  readonly fetched: number;
  /** Since then. */
  readonly elapsedMs: number;
}

/** Whether a machine that is started now finds what it reads staged: waiting any longer would not make it usable sooner. */
export function isLaunchable({ complete, total, staged, fetched, elapsedMs }: Staging): boolean {
  if (complete) return true;
  if (total === 0 || fetched === 0 || elapsedMs < MEASURED_AFTER_MS) return false;
  return ((total - staged) / fetched) * elapsedMs <= HEAD_START_MS;
}
