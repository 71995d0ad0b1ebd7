/** A run of neighbouring bits of one value. */
export interface BitRun {
  readonly value: boolean;
  readonly length: number;
}

/**
 * The runs of a bitmap's bits `[from, to)`, in order.
 *
 * @param order which bit of a byte comes first
 */
export function* bitRuns(
  bytes: Uint8Array,
  from: number,
  to: number,
  order: "highest first" | "lowest first",
): Generator<BitRun> {
  const valueAt = (index: number): boolean => {
    const within = order === "lowest first" ? index & 7 : 7 - (index & 7);
    return ((bytes[index >>> 3] ?? 0) & (1 << within)) !== 0;
  };
  let at = from;
  while (at < to) {
    const start = at;
    const value = valueAt(at);
    const uniform = value ? 0xff : 0;
    while (at < to) {
      if ((at & 7) === 0 && at + 8 <= to && bytes[at >>> 3] === uniform) at += 8;
      else if (valueAt(at) === value) at++;
      else break;
    }
    yield { value, length: at - start };
  }
}
