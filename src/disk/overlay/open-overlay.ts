import type { Clock } from "../../base/clock.ts";
import type { BlockSource } from "../block-device.ts";
import { DiskError } from "../errors.ts";
import { type Checkpoint, CheckpointView, corrupt, loadCheckpoint, mapBytes, saveCheckpoint } from "./checkpoint.ts";
import { ClaimRoom } from "./claim-room.ts";
import { isOutOfSpace, type OverlayDirectory, type OverlayFile } from "./files.ts";
import { GroupCommit, syncData } from "./group-commit.ts";
import { Journal, journalName } from "./journal.ts";
import { PAGE, PageMap } from "./page-map.ts";
import { SpaceWait } from "./space-wait.ts";

const JOURNAL_BYTES = 8 * 1024 * 1024;
/** Each takes some 50 bytes of memory. With more, a small write waits until the rest of its page has been fetched. */
export const PARTIAL_LIMIT = 500_000;
/** Writes under way may make some more. */
const PARTIAL_EXCESS = 1024;
/** Page numbers are 32 bits wide. */
const SIZE_LIMIT = 2 ** 32 * PAGE;

export interface OverlayOptions {
  readonly directory: OverlayDirectory;
  /** File names begin with it: letters, digits, `-`, `.`. */
  readonly disk: string;
  /** What lies below: read where the overlay holds nothing. Its size is the disk's. */
  readonly base: BlockSource;
  /** Refused when lower than the highest that ever opened this overlay. */
  readonly epoch: number;
  readonly clock: Clock;
  /** Shared by all overlays of a claim; without one there are no others. */
  readonly room?: ClaimRoom;
  /** Told once, when nothing can be acknowledged any more: another process has to open the overlay anew. */
  readonly onFailed?: (error: DiskError) => void;
  /** Bytes; tests make it small. */
  readonly journalBytes?: number;
  /** Pages of which only some sectors are held; tests make it small. */
  readonly partialLimit?: number;
}

/** What an overlay is made of once its files are open. */
export interface OpenedOverlay {
  readonly map: PageMap;
  readonly data: OverlayFile;
  readonly commit: GroupCommit;
  readonly room: ClaimRoom;
  /** Of the data file. */
  readonly space: SpaceWait;
  /** Aborting it ends all waiting for space. */
  readonly closing: AbortController;
}

/**
 * Opens an overlay's files, or makes them. Replays the journal and writes a checkpoint, so a journal is only ever appended to by
 * the process that made it. Where there is no space for the checkpoint, the old one stands and the first commit waits.
 *
 * @throws DiskError OVERLAY_CORRUPT, OVERLAY_VERSION, OVERLAY_MISMATCH, STALE_EPOCH
 */
export async function openOverlay(options: OverlayOptions): Promise<OpenedOverlay> {
  const { directory, disk, base, clock } = options;
  if (base.size > SIZE_LIMIT)
    throw new DiskError("OVERLAY_MISMATCH", `${disk}: ${base.size} bytes are more than ${SIZE_LIMIT}`);
  const found = await loadCheckpoint(directory, disk);
  if (found === undefined) await refuseWithoutMap(directory, disk);
  else checkFits(found, options);
  const map = found?.map ?? new PageMap(Math.ceil(base.size / PAGE));
  for (const record of found === undefined ? [] : await Journal.replay(directory, disk, found.journal))
    map.apply(record);

  const room = options.room ?? new ClaimRoom(directory);
  room.keep(checkpointBytes(options));
  const data = await openData(options, found !== undefined);
  try {
    const checkpoint = checkpointer(options, map, data, found?.journal ?? 0);
    const journal = await checkpoint(undefined).catch((error: unknown) => {
      if (!isOutOfSpace(error)) throw error;
      return undefined;
    });
    const closing = new AbortController();
    const space = new SpaceWait(clock, closing.signal);
    const onFailed = options.onFailed ?? (() => undefined);
    const journalSpace = new SpaceWait(clock, closing.signal);
    const { inOrder } = directory;
    const commit = new GroupCommit({ journal, data, inOrder, space: journalSpace, checkpoint, onFailed });
    // Tells that the claim is full, and until when, even if nobody writes. Whoever does hears of a failure.
    if (journal === undefined) commit.commit().catch(() => undefined);
    return { map, data, commit, room, space, closing };
  } catch (error) {
    await data.close();
    throw error;
  }
}

/** Beside one journal, what an overlay's bookkeeping may ever come to take. */
function checkpointBytes({ base, journalBytes = JOURNAL_BYTES, partialLimit = PARTIAL_LIMIT }: OverlayOptions): number {
  const pages = Math.ceil(base.size / PAGE);
  const map = mapBytes(pages, Math.min(pages, partialLimit + PARTIAL_EXCESS));
  return [journalBytes, map, map].reduce((sum, bytes) => sum + Math.ceil(bytes / PAGE) * PAGE, 0);
}

/** @param last the journal that stands */
function checkpointer(options: OverlayOptions, map: PageMap, data: OverlayFile, last: number) {
  const { directory, disk, base, epoch, journalBytes = JOURNAL_BYTES } = options;
  let number = last;
  return async (old: Journal | undefined): Promise<Journal> => {
    const next = number + 1;
    const view = new CheckpointView({ map, size: base.size, epoch, journal: next });
    let fresh: Journal | undefined;
    try {
      // What a crash left of the one before the last: a third one would take more than is kept for checkpoints.
      await removeJournals(directory, disk, [number, next]);
      await syncData(data);
      fresh = await Journal.create(directory, disk, next, journalBytes);
      // The names of the data and of the journal are durable before the map that counts on them.
      await directory.sync();
      await saveCheckpoint(directory, disk, view);
    } catch (error) {
      await fresh?.close();
      throw error;
    } finally {
      view.release();
    }
    number = next;
    await old?.close();
    await removeJournals(directory, disk, [next]);
    return fresh;
  };
}

/** All but those. They are gone for good when it resolves: else a crash might bring them back. */
async function removeJournals(directory: OverlayDirectory, disk: string, but: readonly number[]): Promise<void> {
  const kept = but.map((number) => journalName(disk, number));
  const olds = (await directory.list()).filter((name) => name.startsWith(`${disk}.journal.`) && !kept.includes(name));
  for (const name of olds) await directory.remove(name);
  if (olds.length > 0) await directory.sync();
}

/** The first map is durable before anything is written: without one there is nothing but what its making left. */
async function refuseWithoutMap(directory: OverlayDirectory, disk: string): Promise<void> {
  const first = journalName(disk, 1);
  for (const name of await directory.list()) {
    if (!name.startsWith(`${disk}.journal.`)) continue;
    const isEmpty = name === first && (await Journal.replay(directory, disk, 1)).length === 0;
    if (isEmpty) continue;
    throw corrupt(`there is ${name}, but no map`);
  }
}

/**
 * The data file, all of its size, with what an earlier process left in the page cache on the disk.
 *
 * @param isThere whether a map points into it: then a missing or shorter one has lost what it points to
 */
async function openData({ directory, disk, base }: OverlayOptions, isThere: boolean): Promise<OverlayFile> {
  const name = `${disk}.data`;
  const isMissing = isThere && !(await directory.exists(name));
  const data = await directory.open(name);
  try {
    if (isThere && (isMissing || data.size < base.size)) {
      throw corrupt(`${name} is ${isMissing ? "missing" : "shorter than the disk"}`);
    }
    if (data.size < base.size) await data.truncate(base.size);
    await syncData(data);
  } catch (error) {
    await data.close();
    throw error;
  }
  return data;
}

function checkFits(found: Checkpoint, options: OverlayOptions): void {
  if (found.size !== options.base.size) {
    throw new DiskError(
      "OVERLAY_MISMATCH",
      `${options.disk}: the overlay is for ${found.size} bytes, the disk has ${options.base.size}`,
      {
        hint: "The claim belongs to another restore.",
      },
    );
  }
  if (found.epoch > options.epoch) {
    throw new DiskError(
      "STALE_EPOCH",
      `${options.disk}: epoch ${found.epoch} has opened this overlay; ${options.epoch} is over`,
      {
        hint: "Another media agent has taken over.",
      },
    );
  }
}
