import type { Clock } from "../base/clock.ts";
import { errorMessage } from "../base/errors.ts";
import { mayPass, RepositoryError } from "../repository/errors.ts";

/** Between two looks at the index for what is damaged. */
const RELOAD_PAUSE_MS = 2000;
/** Damaged blobs that are remembered; one of them is told of. */
const DAMAGED_LIMIT = 1000;
/** It is not where the newest index says: somebody has deleted it, and may delete more. */
const MISSING = new Set<string>(["REPOSITORY_PACK_MISSING", "REPOSITORY_BLOB_UNKNOWN", "REPOSITORY_OBJECT_MISSING"]);

/** What the reader needs of a repository. */
export interface BlobRepository {
  readBlob(id: string): Promise<Buffer>;
  /** Knows of all that the index says now. */
  refreshIndex(): Promise<void>;
}

/**
 * Reads blobs, reads the index anew where a blob is not where it was, and knows whether the repository answers. A repository
 * that is not mounted looks like missing packs; its index is missing too, and by that it is told from a damaged one.
 */
export class RepositoryReader {
  readonly #repository: BlobRepository;
  readonly #clock: Clock;
  /** The look at the index under way, and the one after it. */
  #looking: Promise<void> | undefined;
  #next: Promise<void> | undefined;
  #lastReload = Number.NEGATIVE_INFINITY;
  /** Why requests fail that may succeed later. */
  #away: string | undefined;
  /** Why blobs cannot be read, by their ids, until they can. */
  readonly #damaged = new Map<string, string>();
  readonly #onMissing: () => void;

  /** @param onMissing told each time that something is gone from the repository, whatever the newest index says */
  constructor(repository: BlobRepository, clock: Clock, onMissing: () => void = () => undefined) {
    this.#repository = repository;
    this.#clock = clock;
    this.#onMissing = onMissing;
  }

  /** False while requests fail for a reason that may pass. */
  get reachable(): boolean {
    return this.#away === undefined;
  }

  /** Why it is not reachable, or which blob is damaged; empty where all is well. */
  get message(): string {
    const [damaged] = this.#damaged.values();
    return this.#away ?? damaged ?? "";
  }

  /** @throws RepositoryError; see {@link mayPass} */
  async read(id: string): Promise<Buffer> {
    try {
      const content = await this.#readTwice(id);
      this.#away = undefined;
      this.#damaged.delete(id);
      return content;
    } catch (error) {
      if (mayPass(error)) this.#away = errorMessage(error);
      else {
        this.#away = undefined;
        if (this.#damaged.size < DAMAGED_LIMIT) this.#damaged.set(id, errorMessage(error));
        if (isMissing(error)) this.#onMissing();
      }
      throw error;
    }
  }

  async #readTwice(id: string): Promise<Buffer> {
    try {
      return await this.#repository.readBlob(id);
    } catch (error) {
      if (mayPass(error)) throw error;
      await this.#reload(error);
    }
    return this.#repository.readBlob(id);
  }

  /**
   * What is gone may have been moved by a prune a moment ago: only an index that was looked at since can say that it is gone for good. What
   * is damaged stays so, most of the time: for that, a look just now is new enough.
   */
  async #reload(failure: unknown): Promise<void> {
    if (!isMissing(failure)) {
      if (this.#looking !== undefined) return this.#looking;
      if (this.#clock.monotonic() - this.#lastReload < RELOAD_PAUSE_MS) return;
    }
    await this.#lookAgain();
  }

  /** A look at the index that begins after the call, when the one under way is done. Who calls until then shares it. */
  #lookAgain(): Promise<void> {
    if (this.#next === undefined) {
      const before = this.#looking?.catch(() => undefined) ?? Promise.resolve();
      this.#next = before.then(() => {
        this.#next = undefined;
        this.#looking = this.#look();
        return this.#looking;
      });
    }
    return this.#next;
  }

  async #look(): Promise<void> {
    try {
      await this.#repository.refreshIndex();
      this.#lastReload = this.#clock.monotonic();
    } catch (cause) {
      throw new RepositoryError("REPOSITORY_UNREACHABLE", `the index cannot be read: ${errorMessage(cause)}`, {
        cause,
        hint: "See whether the repository's volume is mounted.",
      });
    } finally {
      this.#looking = undefined;
    }
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof RepositoryError && MISSING.has(error.code);
}
