/** Bytes of a pack, `[offset, offset + length)`. */
export interface PackRange {
  readonly pack: string;
  readonly offset: number;
  readonly length: number;
}

/** Ranges that are fetched in one request. */
export interface ReadGroup<T extends PackRange> extends PackRange {
  readonly parts: readonly T[];
}

export interface GroupLimits {
  /** Bytes between two ranges that are rather fetched along than left out by a request more. */
  readonly gap: number;
  /** Bytes of one request, at most; a single range may be longer. */
  readonly most: number;
}

/** Puts ranges together that lie close to one another in a pack. Every range is in exactly one group. Pure. */
export function groupRanges<T extends PackRange>(ranges: readonly T[], { gap, most }: GroupLimits): ReadGroup<T>[] {
  const sorted = [...ranges].sort((a, b) => (a.pack === b.pack ? a.offset - b.offset : a.pack < b.pack ? -1 : 1));
  const groups: { pack: string; offset: number; length: number; parts: T[] }[] = [];
  for (const range of sorted) {
    const last = groups.at(-1);
    const end = range.offset + range.length;
    if (last !== undefined && last.pack === range.pack && range.offset - (last.offset + last.length) <= gap) {
      const length = Math.max(last.length, end - last.offset);
      if (length <= most || length === last.length) {
        last.length = length;
        last.parts.push(range);
        continue;
      }
    }
    groups.push({ pack: range.pack, offset: range.offset, length: range.length, parts: [range] });
  }
  return groups;
}
