import type { Extent } from "../../disk/block-device.ts";
import { type BlobList, byBlob, byMark, type LearnedDisk, markOf, remembering } from "./learned-disk.ts";

/** What a profile says of a snapshot that may be another than it was learned from. */
export interface ValidExtents {
  /** By rank, in the disk. */
  readonly extents: readonly Extent[];
  /** Bytes that are left out, because their content changed since, or is zeros now. */
  readonly ignored: number;
}

/**
 * The pages of a profile that are worth staging: those whose blob is the one they were learned from, and those that boots read
 * whatever they hold. A profile without marks is taken at its word.
 */
export function stillValid({ runs, content }: LearnedDisk, snapshot: BlobList): ValidExtents {
  const file = remembering(snapshot);
  const extents: Extent[] = [];
  let ignored = 0;
  for (const run of runs) {
    let kept = 0;
    for (const { mark, ...piece } of byMark(content, run)) {
      for (const { offset, length, blob } of byBlob(file, piece)) {
        if (mark !== undefined && !run.byPlace && mark !== markOf(blob)) continue;
        kept += length;
        extents.push({ offset, length: Math.min(length, file.size - offset) });
      }
    }
    ignored += run.length - kept;
  }
  return { extents, ignored };
}
