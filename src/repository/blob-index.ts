import { errorCode } from "../base/errors.ts";
import type { Backend } from "./backends/backend.ts";
import type { EarlyReads } from "./backends/early-reads.ts";
import { BlobTable } from "./blob-table.ts";
import { mapBounded } from "./bounded.ts";
import type { Decoder } from "./decoder.ts";
import { RepositoryError } from "./errors.ts";
import type { IndexCache, IndexKey } from "./index-cache.ts";
import type { IndexEntries, Selection } from "./index-file.ts";
import { readAgainIfDamaged } from "./read-again.ts";

/** Index files in memory at once; restic writes at most 50,000 blobs into one, some megabytes. */
const FILES_AT_ONCE = 3;
/** Of an index that is too large to be kept as a whole: then time is not what is short. */
const FILES_OF_LARGE = 2;
const BLOBS_PER_FILE = 50_000;
const FILE_LIMIT = 256 * 1024 * 1024;
/** A prune rewrites the index while it is read: so often it is read anew before that is an error. */
const ATTEMPTS = 5;

/** Begins what {@link loadIndex} is going to read first. */
export function beginIndex(early: EarlyReads): void {
  const listed = early.beginList("index");
  const begin = (names: string[]): void => {
    for (const name of names.slice(0, FILES_AT_ONCE)) void early.begin({ type: "index", name }, FILE_LIMIT);
  };
  listed.then(begin, () => undefined);
}

interface Limits {
  /** Told the names of the index files that the table comes from, as they were listed. */
  readonly onListed?: (files: readonly string[]) => void;
  /** Entries that are kept at most; with more, reading is given up. */
  readonly most?: number;
  /** Where what was kept is looked for before the index is read, and put afterwards. */
  readonly kept?: { readonly cache: IndexCache; readonly repository: string } | undefined;
}

/**
 * Reads all index files into a table that holds what is selected. Files that others supersede count like any other, as
 * in restic itself: they name further copies of blobs, and whoever reads a blob tries them all.
 *
 * @returns undefined where more than `most` entries would be kept
 * @throws RepositoryError REPOSITORY_OBJECT_DAMAGED, REPOSITORY_UNREACHABLE
 */
export async function loadIndex(
  backend: Backend,
  decoder: Decoder,
  selection: Selection,
  { most = Number.POSITIVE_INFINITY, kept, onListed = () => undefined }: Limits = {},
): Promise<BlobTable | undefined> {
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    const files = await backend.list("index");
    onListed(files);
    const keyOfNow = (): IndexKey => {
      const wanted = typeof selection === "string" ? selection : { ids: selection.ids };
      return { repository: kept?.repository ?? "", files, selection: wanted, most };
    };
    const known = await kept?.cache.load(keyOfNow());
    if (known === "tooMany") return undefined;
    const of = typeof selection === "string" ? undefined : selection;
    if (known !== undefined) return BlobTable.from(known, of);
    const room = selection === "all" ? Math.min(most + BLOBS_PER_FILE, files.length * BLOBS_PER_FILE) : undefined;
    const key = keyOfNow();
    const table = new BlobTable({ room, of });
    let adding: Promise<void> = Promise.resolve();
    let vanished = false;
    await mapBounded(files, selection === "all" ? FILES_AT_ONCE : FILES_OF_LARGE, async (name) => {
      if (vanished || table.size > most) return;
      const entries = await readEntries(backend, decoder, name, selection);
      if (entries === undefined) vanished = true;
      else {
        // One after the other, while the threads are at the next ones.
        adding = adding.then(() => table.add(entries, most));
        await adding;
      }
    });
    const isTooLarge = table.size > most;
    if (vanished && !isTooLarge) {
      table.release();
      continue;
    }
    // Nobody waits for it, and a claim that is full costs no more than the time of the next start.
    void kept?.cache.save(key, isTooLarge ? "tooMany" : table.parts());
    if (!isTooLarge) return table;
    table.release();
    return undefined;
  }
  throw new RepositoryError("REPOSITORY_UNREACHABLE", "the index was changed again and again while it was read", {
    hint: "A prune is probably running; try again when it is done.",
  });
}

/** Undefined where the file was removed since the listing: what it held is listed in a newer one. */
async function readEntries(
  backend: Backend,
  decoder: Decoder,
  name: string,
  selection: Selection,
): Promise<IndexEntries | undefined> {
  try {
    return await readAgainIfDamaged(async () => {
      const sealed = await backend.readAll({ type: "index", name }, FILE_LIMIT);
      return decoder.index(name, sealed, selection);
    });
  } catch (error) {
    if (errorCode(error) === "REPOSITORY_OBJECT_MISSING") return undefined;
    throw error;
  }
}
