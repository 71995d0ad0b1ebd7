import type { Extent } from "../disk/block-device.ts";

/** The unit of boot profiles. */
export const PROFILE_PAGE = 4096;
/** Longest text that a profile may hold for a disk (api/boot-profile.ts). */
const TEXT_LIMIT = 256 * 1024;

/** Extents, in whole pages, as a boot profile's text. As many as its limit allows; those at the end are left out. */
export function encodeExtents(extents: Iterable<Extent>): string {
  let text = "";
  for (const { offset, length } of extents) {
    const first = Math.floor(offset / PROFILE_PAGE);
    const pages = Math.ceil((offset + length) / PROFILE_PAGE) - first;
    const piece = `${text === "" ? "" : ","}${first.toString(36)}+${pages.toString(36)}`;
    if (text.length + piece.length > TEXT_LIMIT) break;
    text += piece;
  }
  return text;
}

/** The extents of a boot profile's text, in bytes, in its order; cut at the disk's end, what lies beyond is left out. */
export function decodeExtents(text: string, size: number): Extent[] {
  const extents: Extent[] = [];
  for (const piece of text === "" ? [] : text.split(",")) {
    const [first = "", pages = ""] = piece.split("+");
    const offset = Number.parseInt(first, 36) * PROFILE_PAGE;
    const end = Math.min(size, offset + Number.parseInt(pages, 36) * PROFILE_PAGE);
    if (Number.isSafeInteger(offset) && offset < end) extents.push({ offset, length: end - offset });
  }
  return extents;
}
