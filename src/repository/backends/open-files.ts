import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { RepositoryError } from "../errors.ts";

interface Entry {
  readonly opened: Promise<FileHandle>;
  users: number;
  /** No longer in the map: the last user closes it. */
  evicted: boolean;
}

/**
 * Files kept open for reading, since a boot reads a few dozen packs again and again. A file is closed when it was evicted
 * *and* nobody reads from it, so that a read never meets a closed descriptor, however many files are read at once.
 */
export class OpenFiles {
  readonly #limit: number;
  /** Insertion order is age: the first is the least recently used. */
  readonly #entries = new Map<string, Entry>();

  /** @param limit files that stay open while nobody reads from them */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Runs `body` with the open file. Where it fails, the file is opened anew next time. */
  async use<T>(path: string, body: (handle: FileHandle) => Promise<T>): Promise<T> {
    const entry = this.#entries.get(path) ?? { opened: openRegular(path), users: 0, evicted: false };
    this.#entries.delete(path);
    this.#entries.set(path, entry);
    entry.users++;
    this.#evictOldest();
    try {
      return await body(await entry.opened);
    } catch (error) {
      this.#evict(path, entry);
      throw error;
    } finally {
      entry.users--;
      await closeUnused(entry);
    }
  }

  /** Closes what nobody reads from; reads under way close theirs when they end. */
  async close(): Promise<void> {
    for (const [path, entry] of [...this.#entries]) {
      this.#evict(path, entry);
      await closeUnused(entry);
    }
  }

  #evictOldest(): void {
    if (this.#entries.size <= this.#limit) return;
    for (const [path, entry] of this.#entries) {
      this.#evict(path, entry);
      void closeUnused(entry);
      return;
    }
  }

  #evict(path: string, entry: Entry): void {
    entry.evicted = true;
    // Another one may have been opened under the same name since.
    if (this.#entries.get(path) === entry) this.#entries.delete(path);
  }
}

/** Closing a file that was only read from cannot lose anything, so a failure to close is of no interest. */
async function closeUnused(entry: Entry): Promise<void> {
  if (!entry.evicted || entry.users > 0) return;
  await entry.opened.then((handle) => handle.close()).catch(() => undefined);
}

/**
 * Opens a file for reading. What is no regular file is refused: a pipe would hold up one of Node's few threads for good.
 *
 * @throws RepositoryError REPOSITORY_OBJECT_DAMAGED; errors of the system
 */
export async function openRegular(path: string): Promise<FileHandle> {
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    if ((await handle.stat()).isFile()) return handle;
  } catch (error) {
    await handle.close();
    throw error;
  }
  await handle.close();
  throw new RepositoryError("REPOSITORY_OBJECT_DAMAGED", `${path} is no regular file`);
}
