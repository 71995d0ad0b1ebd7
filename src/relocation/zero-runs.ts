const ZEROS = Buffer.alloc(1024 * 1024);

/** A run of bytes `[start, end)` of a buffer that is zero throughout, or not looked at further. */
export interface Run {
  readonly start: number;
  readonly end: number;
  readonly zero: boolean;
}

export function isZero(bytes: Buffer): boolean {
  for (let at = 0; at < bytes.length; at += ZEROS.length) {
    const length = Math.min(ZEROS.length, bytes.length - at);
    if (bytes.compare(ZEROS, 0, length, at, at + length) !== 0) return false;
  }
  return true;
}

/** Splits a buffer into alternating runs. @param granularity bytes that are judged as one */
export function zeroRuns(bytes: Buffer, granularity: number): Run[] {
  const runs: Run[] = [];
  let start = 0;
  let current: boolean | undefined;
  for (let at = 0; at < bytes.length; at += granularity) {
    const zero = isZero(bytes.subarray(at, Math.min(bytes.length, at + granularity)));
    if (current !== undefined && zero !== current) {
      runs.push({ start, end: at, zero: current });
      start = at;
    }
    current = zero;
  }
  if (current !== undefined) runs.push({ start, end: bytes.length, zero: current });
  return runs;
}
