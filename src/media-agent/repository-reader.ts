import type { Clock } from "../base/clock.ts";
import { errorMessage } from "../base/errors.ts";
import { isTransient, RepositoryError } from "../repository/errors.ts";

/** Between two looks at the index for what is damaged. */
const RELOAD_PAUSE_MS = 2000;
/** Blobs that are remembered of each kind; one of them is told of. */
const REMEMBERED = 1000;
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
  /** Why blobs cannot be read now, though they may be later, by their ids; whoever wants one asks again until it is here. */
  readonly #away = new Map<string, string>();
  /** Why blobs cannot be read at all, until they can. */
  readonly #damaged = new Map<string, string>();
  readonly #onMissing: () => void;

  /** @param onMissing told each time that something is gone from the repository, whatever the newest index says */
  constructor(repository: BlobRepository, clock: Clock, onMissing: () => void = () => undefined) {
    this.#repository = repository;
    this.#clock = clock;
    this.#onMissing = onMissing;
  }

  /** False while a blob that is wanted cannot be read for a reason that may pass. */
  get reachable(): boolean {
    return this.#away.size === 0;
  }

  /** Why it is not reachable, or which blob is damaged; empty where all is well. */
  get message(): string {
    const [damaged] = this.#damaged.values();
    const [away = damaged ?? ""] = this.#away.values();
    return away;
  }

  /** @throws RepositoryError; see {@link isTransient} */
  async read(id: string): Promise<Buffer> {
    try {
      const content = await this.#readTwice(id);
      this.#away.delete(id);
      this.#damaged.delete(id);
      return content;
    } catch (error) {
      const isAway = isTransient(error);
      const [known, other] = isAway ? [this.#away, this.#damaged] : [this.#damaged, this.#away];
      other.delete(id);
      if (known.size < REMEMBERED) known.set(id, errorMessage(error));
      if (isMissing(error)) this.#onMissing();
      throw error;
    }
  }

  async #readTwice(id: string): Promise<Buffer> {
    try {
      return await this.#repository.readBlob(id);
    } catch (error) {
      if (isTransient(error)) throw error;
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
