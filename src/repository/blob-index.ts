import { errorCode } from "../base/errors.ts";
import type { Backend } from "./backends/backend.ts";
import type { EarlyReads } from "./backends/early-reads.ts";
import { ID_BYTES } from "./blob-id.ts";
import { BlobTable } from "./blob-table.ts";
import { mapBounded } from "./bounded.ts";
import type { Decoder, IndexFilter } from "./decoder.ts";
import { RepositoryError } from "./errors.ts";
import type { IndexCache } from "./index-cache.ts";
import type { IndexEntries } from "./index-file.ts";
import { Pause } from "./pause.ts";
import { readAgainIfDamaged } from "./read-again.ts";
import { release } from "./release.ts";

/** Index files in memory at once; restic writes at most 50,000 blobs into one, some megabytes. */
const FILES_AT_ONCE = 3;
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
  /** Entries that are kept at most; with more, reading is given up. */
  readonly most?: number;
  /** Entries that are expected, so that the table need not grow. */
  readonly expected?: number;
  /** Where what was kept is looked for before the index is read, and put afterwards. */
  readonly kept?: { readonly cache: IndexCache; readonly repository: string } | undefined;
}

/**
 * Reads all index files into a table that holds what passes the filter. Files that others supersede count like any other, as
 * in restic itself: they name further copies of blobs, and whoever reads a blob tries them all.
 *
 * @returns undefined where more than `most` entries would be kept
 * @throws RepositoryError REPOSITORY_OBJECT_DAMAGED, REPOSITORY_UNREACHABLE
 */
export async function loadIndex(
  backend: Backend,
  decoder: Decoder,
  filter: IndexFilter,
  { most = Number.POSITIVE_INFINITY, expected = 1024, kept }: Limits = {},
): Promise<BlobTable | undefined> {
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    const files = await backend.list("index");
    const key = kept === undefined ? undefined : { repository: kept.repository, files, filter, most };
    const known = key === undefined ? undefined : await kept?.cache.load(key);
    if (known === "tooMany") return undefined;
    if (known !== undefined) return BlobTable.of(known);
    const table = new BlobTable(expected, most + 1);
    let vanished = false;
    await mapBounded(files, FILES_AT_ONCE, async (name) => {
      if (vanished || table.size > most) return;
      const entries = await readEntries(backend, decoder, name, filter);
      if (entries === undefined) vanished = true;
      else await addEntries(table, entries, most);
    });
    const isTooLarge = table.size > most;
    if (vanished && !isTooLarge) {
      table.release();
      continue;
    }
    // Nobody waits for it, and a claim that is full costs no more than the time of the next start.
    if (key !== undefined) void kept?.cache.save(key, isTooLarge ? "tooMany" : table.entries());
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
  filter: IndexFilter,
): Promise<IndexEntries | undefined> {
  try {
    return await readAgainIfDamaged(async () => {
      const sealed = await backend.readAll({ type: "index", name }, FILE_LIMIT);
      return decoder.index(name, sealed, filter);
    });
  } catch (error) {
    if (errorCode(error) === "REPOSITORY_OBJECT_MISSING") return undefined;
    throw error;
  }
}

/** Adds them until there are more than `most`. */
async function addEntries(table: BlobTable, { packs, ids, columns }: IndexEntries, most: number): Promise<void> {
  const pause = new Pause();
  for (let at = 0, column = 0; at < ids.length && table.size <= most; at += ID_BYTES, column += 4) {
    table.add(ids.subarray(at, at + ID_BYTES), {
      pack: packs[columns[column] ?? 0] ?? "",
      offset: columns[column + 1] ?? 0,
      length: columns[column + 2] ?? 0,
      uncompressedLength: columns[column + 3] ?? 0,
    });
    if (pause.due()) await pause.take();
  }
  release(ids);
  release(columns);
}
