import type { Extent } from "../../disk/block-device.ts";
import type { FileBlob } from "../../repository/repository-file.ts";

/** The unit of boot profiles, bytes. */
export const PROFILE_PAGE = 4096;
/** A page's score after the first boot that read it, and what it nears when each one does. */
export const SCORE_FIRST = 10;
export const SCORE_LIMIT = 40;
/** What is left of it after another boot, which adds {@link SCORE_FIRST} if it read the page. */
const SCORE_KEPT = 3 / 4;

/** A page's score after another boot; 0 where it is forgotten. */
export function scoreAfter(score: number, isRead: boolean): number {
  return Math.floor(score * SCORE_KEPT) + (isRead ? SCORE_FIRST : 0);
}

/** Pages that boots read; bytes, in whole pages, so the last may reach beyond the disk's end. */
export interface LearnedRun extends Extent {
  /** How often boots read it, the last ones counting most: {@link scoreAfter}. */
  readonly score: number;
  /** Boots have read it although what it held had changed: superblocks, inode tables, journals. */
  readonly byPlace: boolean;
}

/** From `offset` on the disk held the blob with this mark. */
export interface ContentMark {
  readonly offset: number;
  readonly mark: string;
}

/** What is known of one disk: runs by rank, marks by offset. */
export interface LearnedDisk {
  readonly runs: readonly LearnedRun[];
  readonly content: readonly ContentMark[];
}

/** What profiles need of a disk's file. */
export interface BlobList {
  readonly size: number;
  readonly blobCount: number;
  blob(index: number): FileBlob;
  indexAt(offset: number): number;
}

/** The same list, which builds each blob once: a profile asks for the same ones again and again. */
export function remembering(file: BlobList): BlobList {
  const blobs = new Map<number, FileBlob>();
  return {
    size: file.size,
    blobCount: file.blobCount,
    indexAt: (offset) => file.indexAt(offset),
    blob: (index) => {
      const known = blobs.get(index) ?? file.blob(index);
      blobs.set(index, known);
      return known;
    },
  };
}

/** A blob's mark: two blobs may share one, which costs a blob that is staged in vain. */
export function markOf(blob: { readonly id: string }): string {
  return Buffer.from(blob.id.slice(0, 6), "hex").toString("base64url");
}

/** The first page that begins in a blob. A page belongs to the blob that holds its first byte. */
export function firstPage(blob: FileBlob): number {
  return pageAfter(blob.offset);
}

function pageAfter(offset: number): number {
  return Math.ceil(offset / PROFILE_PAGE) * PROFILE_PAGE;
}

/** Cuts pages where another blob begins; what lies beyond the disk, or holds zeros, is left out. */
export function* byBlob(file: BlobList, { offset, length }: Extent): Generator<Extent & { readonly blob: FileBlob }> {
  const end = Math.min(offset + length, pageAfter(file.size));
  let at = offset;
  while (at < end) {
    const blob = file.blob(file.indexAt(at));
    const next = Math.min(end, pageAfter(blob.offset + blob.length));
    if (next <= at) return;
    if (!blob.zero) yield { offset: at, length: next - at, blob };
    at = next;
  }
}

/** Cuts pages where another mark begins, with the mark that holds for each piece; undefined before the first. */
export function* byMark(
  content: readonly ContentMark[],
  { offset, length }: Extent,
): Generator<Extent & { readonly mark: string | undefined }> {
  let index = lastAtOrBefore(content, offset);
  let at = offset;
  while (at < offset + length) {
    const next = Math.min(offset + length, content[index + 1]?.offset ?? Number.POSITIVE_INFINITY);
    if (next > at) yield { offset: at, length: next - at, mark: content[index]?.mark };
    at = Math.max(at, next);
    index++;
  }
}

/** The index of the last item at or before an offset, or -1. */
function lastAtOrBefore(items: readonly { readonly offset: number }[], offset: number): number {
  let low = -1;
  let high = items.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((items[middle]?.offset ?? 0) <= offset) low = middle;
    else high = middle - 1;
  }
  return low;
}
