import type { Extent } from "../block-device.ts";
import { PAGE, type PageMap, SECTOR, SECTORS_PER_PAGE } from "./page-map.ts";

/** Where bytes of an overlay's disk lie: in the image below, in the data file, or nowhere. */
export type Source = "base" | "data" | "zero";

/** Runs of one source. States are taken as they are now: a write that finishes meanwhile may or may not be seen. */
export function* sourcesOf(
  map: PageMap,
  offset: number,
  length: number,
): Generator<{ readonly extent: Extent; readonly source: Source }> {
  const end = offset + length;
  let at = offset;
  while (at < end) {
    const source = sourceAt(map, at);
    let to = sameUntil(map, at, source, end);
    while (to < end && sourceAt(map, to) === source) to = sameUntil(map, to, source, end);
    yield { extent: { offset: at, length: to - at }, source };
    at = to;
  }
}

function sourceAt(map: PageMap, offset: number): Source {
  const page = Math.floor(offset / PAGE);
  if (map.zero.has(page)) return "zero";
  return (map.mask(page) & (1 << (Math.floor(offset / SECTOR) % SECTORS_PER_PAGE))) === 0 ? "base" : "data";
}

/** The end of the run of pages (or, in a partial page, of the sector) that begins at `offset`. */
function sameUntil(map: PageMap, offset: number, source: Source, end: number): number {
  const page = Math.floor(offset / PAGE);
  const limit = Math.ceil(end / PAGE);
  if (map.partial.has(page)) return Math.min(end, (Math.floor(offset / SECTOR) + 1) * SECTOR);
  if (source === "zero") return Math.min(end, map.zero.next(false, page, limit) * PAGE);
  if (source === "data") return Math.min(end, map.full.next(false, page, limit) * PAGE);
  if (map.partial.size > 0) return Math.min(end, (page + 1) * PAGE);
  return Math.min(end, Math.min(map.full.next(true, page, limit), map.zero.next(true, page, limit)) * PAGE);
}

/**
 * The sectors of a page in `[start, end)`, as a mask; what lies beyond the disk's end counts as covered with its last sector.
 *
 * @param size bytes of the disk
 */
export function sectorMask(page: number, start: number, end: number, size: number): number {
  const first = (start - page * PAGE) / SECTOR;
  const last = end === size ? SECTORS_PER_PAGE : Math.ceil((end - page * PAGE) / SECTOR);
  let mask = 0;
  for (let sector = first; sector < last; sector++) mask |= 1 << sector;
  return mask;
}

/** How many bytes a write of whole sectors to the data file takes at most of what is free there. @param size bytes of the disk */
export function newBytes(map: PageMap, offset: number, length: number, size: number): number {
  const { full, partial } = map;
  const end = offset + length;
  const limit = Math.ceil(end / PAGE);
  let bytes = 0;
  for (let page = full.next(false, Math.floor(offset / PAGE), limit); page < limit; ) {
    const [from, to] = [Math.max(offset, page * PAGE), Math.min(end, (page + 1) * PAGE)];
    const mask = sectorMask(page, from, to, size);
    if (((partial.get(page) ?? 0) & mask) !== mask) bytes += PAGE;
    page = full.next(false, page + 1, limit);
  }
  return bytes;
}
