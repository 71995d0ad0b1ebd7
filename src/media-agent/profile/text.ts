import type { BootProfile } from "../../api/boot-profile.ts";
import {
  type ContentMark,
  type LearnedDisk,
  type LearnedRun,
  PROFILE_PAGE,
  SCORE_FIRST,
  SCORE_LIMIT,
} from "./learned-disk.ts";

type DiskText = Pick<BootProfile["disks"][number], "extents" | "content">;

/** Characters for all disks together (api/boot-profile.ts). */
const EXTENTS_LIMIT = 512 * 1024;
const CONTENT_LIMIT = 256 * 1024;
/** Whoever names more than a boot can read names everything: the rest of such a text counts nothing. */
const BYTES_LIMIT = 4 * 1024 ** 3;

/** Disks as text. As many runs as the limits allow, the highest ranks first; a disk with few leaves its share to the others. */
export function encodeDisks(disks: readonly LearnedDisk[]): DiskText[] {
  const extents = fairly(
    disks.map(({ runs }) => runTexts(runs)),
    EXTENTS_LIMIT,
  );
  const content = fairly(
    disks.map((disk) => markTexts(disk.content)),
    CONTENT_LIMIT,
  );
  return disks.map((_, index) => ({ extents: extents[index] ?? "", content: content[index] ?? "" }));
}

/** A disk of a profile, which anybody may have written: within the disk, bounded in what it names, pages perhaps twice. */
export function decodeDisk(text: DiskText, size: number): LearnedDisk {
  return { runs: decodeRuns(text.extents, size), content: decodeMarks(text.content ?? "", size) };
}

function runTexts(runs: readonly LearnedRun[]): string[] {
  let score = SCORE_FIRST;
  return runs.map((run) => {
    const place = `${(run.offset / PROFILE_PAGE).toString(36)}+${(run.length / PROFILE_PAGE).toString(36)}`;
    const change = run.score === score ? "" : `*${run.score.toString(36)}`;
    score = run.score;
    return `${place}${change}${run.byPlace ? "!" : ""}`;
  });
}

function markTexts(content: readonly ContentMark[]): string[] {
  let before = 0;
  return content.map(({ offset, mark }) => {
    const page = offset / PROFILE_PAGE;
    const text = `${(page - before).toString(36)}:${mark}`;
    before = page;
    return text;
  });
}

/** Joins each list, cut so that all together fit: who needs less than an equal share leaves the rest to the others. */
function fairly(lists: readonly (readonly string[])[], limit: number): string[] {
  const lengths = lists.map((pieces) => pieces.reduce((sum, piece) => sum + piece.length + 1, 0));
  const texts: string[] = [];
  let left = limit;
  let others = lists.length;
  for (const index of lengths.map((_, at) => at).sort((a, b) => (lengths[a] ?? 0) - (lengths[b] ?? 0))) {
    const text = joinWithin(lists[index] ?? [], Math.floor(left / others--));
    left -= text.length;
    texts[index] = text;
  }
  return texts;
}

function joinWithin(pieces: readonly string[], limit: number): string {
  let length = 0;
  let count = 0;
  for (const piece of pieces) {
    length += piece.length + 1;
    if (length > limit + 1) break;
    count++;
  }
  return pieces.slice(0, count).join(",");
}

function decodeRuns(text: string, size: number): LearnedRun[] {
  const runs: LearnedRun[] = [];
  let score = SCORE_FIRST;
  let bytes = 0;
  for (const piece of text === "" ? [] : text.split(",")) {
    const [, first = "", pages = "", change, place] = /^(\w+)\+(\w+)(?:\*(\w+))?(!)?$/.exec(piece) ?? [];
    if (change !== undefined) score = Math.min(SCORE_LIMIT, Math.max(1, Number.parseInt(change, 36)));
    const offset = Number.parseInt(first, 36) * PROFILE_PAGE;
    const end = Math.min(
      Math.ceil(size / PROFILE_PAGE) * PROFILE_PAGE,
      offset + Number.parseInt(pages, 36) * PROFILE_PAGE,
    );
    if (!Number.isSafeInteger(offset) || !(offset < end)) continue;
    bytes += end - offset;
    if (bytes > BYTES_LIMIT) break;
    runs.push({ offset, length: end - offset, score, byPlace: place !== undefined });
  }
  return runs;
}

function decodeMarks(text: string, size: number): ContentMark[] {
  const content: ContentMark[] = [];
  let page = 0;
  for (const piece of text === "" ? [] : text.split(",")) {
    const [distance = "", mark = ""] = piece.split(":");
    page += Number.parseInt(distance, 36);
    if (!(page * PROFILE_PAGE < size)) break;
    content.push({ offset: page * PROFILE_PAGE, mark });
  }
  return content;
}
