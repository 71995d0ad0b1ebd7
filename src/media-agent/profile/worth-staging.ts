import { setImmediate as nextTurn } from "node:timers/promises";
import type { Extent } from "../../disk/block-device.ts";
import type { FileBlob } from "../../repository/repository-file.ts";
import {
  type BlobList,
  byBlob,
  byMark,
  type LearnedDisk,
  markOf,
  remembering,
  SCORE_FIRST,
  SCORE_LIMIT,
} from "./learned-disk.ts";

/**
 * Pages whose score is lower than this part of the best were read by few boots and not by the last, and bring less than they
 * cost. A page that was read for the first time by the last boot (a new kernel's) is just not among them.
 */
const SCORE_PART = SCORE_FIRST / SCORE_LIMIT;
/** Blobs that changed are staged as far as they are this part of those that did not. */
const DOUBTFUL_PART = 1 / 4;
/** Pieces after which others get their turn: a profile may hold a hundred thousand. */
const PIECES_AT_ONCE = 256;

/** What a profile says of a snapshot that may be another than it was learned from. */
export interface WorthStaging {
  /** In the disk; first what is valid, by rank, then what is doubtful. */
  readonly extents: readonly Extent[];
  /** Bytes of the former. */
  readonly valid: number;
  /** Bytes whose blob is another since, or holds zeros: most of them may be out of date. */
  readonly outdated: number;
}

/**
 * The pages of a profile that are worth staging. Valid are those whose blob is the one they were learned from, and those that boots
 * read whatever they hold. Where the blob has changed, the page itself may still be the same: the highest ranks of those follow, as
 * far as they do not cost much; the others are ignored. A profile without marks is taken at its word.
 *
 * Takes its time in small portions.
 */
export async function worthStaging({ runs, content }: LearnedDisk, snapshot: BlobList): Promise<WorthStaging> {
  const file = remembering(snapshot);
  const best = runs.reduce((most, { score }) => Math.max(most, score), 0);
  const valid = new Choice(file.size);
  const doubtful: { readonly extent: Extent; readonly blob: FileBlob }[] = [];
  let outdated = 0;
  let count = 0;
  for (const run of runs) {
    if (run.score < best * SCORE_PART) continue;
    let kept = 0;
    for (const { mark, ...piece } of byMark(content, run)) {
      for (const { blob, ...extent } of byBlob(file, piece)) {
        if (++count % PIECES_AT_ONCE === 0) await nextTurn();
        if (mark === undefined || run.byPlace || mark === markOf(blob)) {
          kept += extent.length;
          valid.add(extent, blob);
        } else doubtful.push({ extent, blob });
      }
    }
    outdated += run.length - kept;
  }
  const all = new Choice(file.size, valid);
  for (const { extent, blob } of doubtful) {
    if (++count % PIECES_AT_ONCE === 0) await nextTurn();
    if (all.bytesWith(blob) <= valid.blobBytes * (1 + DOUBTFUL_PART)) all.add(extent, blob);
  }
  return { extents: all.extents, valid: valid.bytes, outdated };
}

/** Extents that were chosen, and what their blobs take. */
class Choice {
  readonly extents: Extent[];
  readonly #size: number;
  /** By their ids: a disk that is not raw has one blob in many pieces. */
  readonly #blobs: Set<string>;
  bytes: number;
  blobBytes: number;

  /** @param start to begin with the same */
  constructor(size: number, start?: Choice) {
    this.#size = size;
    this.extents = [...(start?.extents ?? [])];
    this.#blobs = new Set(start === undefined ? [] : start.#blobs);
    this.bytes = start?.bytes ?? 0;
    this.blobBytes = start?.blobBytes ?? 0;
  }

  bytesWith(blob: FileBlob): number {
    return this.blobBytes + (this.#blobs.has(blob.id) ? 0 : blob.length);
  }

  add({ offset, length }: Extent, blob: FileBlob): void {
    this.blobBytes = this.bytesWith(blob);
    this.#blobs.add(blob.id);
    this.bytes += length;
    this.extents.push({ offset, length: Math.min(length, this.#size - offset) });
  }
}
