import { setImmediate as nextTurn } from "node:timers/promises";
import type { Extent } from "../../disk/block-device.ts";
import {
  type BlobList,
  byBlob,
  byMark,
  type ContentMark,
  firstPage,
  type LearnedDisk,
  type LearnedRun,
  markOf,
  remembering,
  SCORE_FIRST,
  scoreAfter,
} from "./learned-disk.ts";

/** Pieces after which others get their turn: there may be tens of thousands. */
const PIECES_AT_ONCE = 256;

/** A piece of what was known before, in one blob of then. */
interface Known extends Extent {
  readonly score: number;
  readonly byPlace: boolean;
  readonly mark: string | undefined;
  /** Its rank. */
  readonly order: number;
  /** What this boot has read of it, by offset. */
  readonly readNow: Extent[];
}

/**
 * What is known of a disk after another boot: what was read each time ranks first; among equals, what was read now comes in its
 * order, and then the rest in the order of before. A page that was read again although its content had changed is one that boots
 * read by its place; one that was not, and whose content changed, is forgotten.
 *
 * Takes its time in small portions.
 *
 * @param reads of this boot, in whole pages, each page once
 * @param snapshot the disk's file in this boot's snapshot
 */
export async function mergeBoot(
  earlier: LearnedDisk,
  reads: readonly Extent[],
  snapshot: BlobList,
): Promise<LearnedDisk> {
  const file = remembering(snapshot);
  const known = disjoint(earlier);
  const runs: LearnedRun[] = [];
  for (const [index, read] of reads.entries()) {
    if (index % PIECES_AT_ONCE === 0) await nextTurn();
    for (const piece of byBlob(file, read)) runs.push(...learn(piece, markOf(piece.blob), known));
  }
  for (const [index, before] of [...known].sort((a, b) => a.order - b.order).entries()) {
    if (index % PIECES_AT_ONCE === 0) await nextTurn();
    const score = scoreAfter(before.score, false);
    if (score === 0) continue;
    for (const rest of without(before, before.readNow)) {
      for (const { offset, length, blob } of byBlob(file, rest)) {
        const isUnchanged = before.mark === undefined || before.mark === markOf(blob);
        if (isUnchanged || before.byPlace) {
          runs.push({ offset, length, score, byPlace: before.byPlace });
        }
      }
    }
  }
  return { runs: join(runs.sort((a, b) => b.score - a.score)), content: await marksOf(runs, file) };
}

/** Pieces without overlaps, by offset, each in one blob of then. */
function disjoint({ runs, content }: LearnedDisk): Known[] {
  const known: Known[] = [];
  const ordered = runs.map((run, order) => ({ ...run, order })).sort((a, b) => a.offset - b.offset);
  let end = 0;
  for (const run of ordered) {
    const offset = Math.max(run.offset, end);
    const length = run.offset + run.length - offset;
    if (length <= 0) continue;
    end = offset + length;
    for (const piece of byMark(content, { offset, length })) known.push({ ...run, ...piece, readNow: [] });
  }
  return known;
}

/** What this boot read in one blob, cut by what was known of it. */
function* learn(read: Extent, mark: string, known: readonly Known[]): Generator<LearnedRun> {
  const end = read.offset + read.length;
  let at = read.offset;
  for (let index = firstEndingAfter(known, at); at < end; index++) {
    const next = known[index];
    const from = Math.min(end, Math.max(at, next?.offset ?? end));
    if (from > at) yield { offset: at, length: from - at, score: SCORE_FIRST, byPlace: false };
    if (next === undefined || from === end) return;
    const to = Math.min(end, next.offset + next.length);
    const again = { offset: from, length: to - from };
    next.readNow.push(again);
    const hasChanged = next.mark !== undefined && next.mark !== mark;
    yield {
      ...again,
      score: scoreAfter(next.score, true),
      byPlace: next.byPlace || hasChanged,
    };
    at = to;
  }
}

function firstEndingAfter(known: readonly Known[], offset: number): number {
  let low = 0;
  let high = known.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const item = known[middle];
    if (item !== undefined && item.offset + item.length <= offset) low = middle + 1;
    else high = middle;
  }
  return low;
}

function* without(whole: Extent, parts: readonly Extent[]): Generator<Extent> {
  let at = whole.offset;
  for (const part of [...parts].sort((a, b) => a.offset - b.offset)) {
    if (part.offset > at) yield { offset: at, length: part.offset - at };
    at = part.offset + part.length;
  }
  const end = whole.offset + whole.length;
  if (end > at) yield { offset: at, length: end - at };
}

function join(runs: readonly LearnedRun[]): LearnedRun[] {
  const joined: LearnedRun[] = [];
  for (const run of runs) {
    const last = joined.at(-1);
    const goesOn = last !== undefined && last.offset + last.length === run.offset;
    if (goesOn && last.score === run.score && last.byPlace === run.byPlace) {
      joined[joined.length - 1] = { ...last, length: last.length + run.length };
    } else joined.push(run);
  }
  return joined;
}

async function marksOf(runs: readonly Extent[], file: BlobList): Promise<ContentMark[]> {
  const marks = new Map<number, ContentMark>();
  for (const [index, run] of runs.entries()) {
    if (index % PIECES_AT_ONCE === 0) await nextTurn();
    for (const { blob } of byBlob(file, run)) {
      if (!marks.has(blob.index)) marks.set(blob.index, { offset: firstPage(blob), mark: markOf(blob) });
    }
  }
  return [...marks.values()].sort((a, b) => a.offset - b.offset);
}
