import { isTransient, RepositoryError } from "../repository/errors.ts";
import type { BlobPlace } from "../repository/repository.ts";
import type { BlobRepository } from "./repository-reader.ts";

/** A repository whose index is known. */
export interface GroupedRepository extends BlobRepository {
  /** Whether the index lists the blob. */
  knows(id: string): boolean;
  place(id: string): BlobPlace | undefined;
}

/**
 * Several repositories, read as one: blobs are named by the hash of their content, so whichever holds one will do. Where the first
 * that lists it does not answer, the next is asked.
 */
export class RepositoryGroup implements BlobRepository {
  readonly #repositories: readonly GroupedRepository[];

  constructor(repositories: readonly GroupedRepository[]) {
    this.#repositories = repositories;
  }

  async readBlob(id: string): Promise<Buffer> {
    const [only] = this.#repositories;
    if (only !== undefined && this.#repositories.length === 1) return only.readBlob(id);
    let failure: unknown;
    for (const repository of this.#repositories) {
      if (!repository.knows(id)) continue;
      try {
        return await repository.readBlob(id);
      } catch (error) {
        // Of several failures the one that may pass is told: the same read may succeed later.
        if (failure === undefined || isTransient(error)) failure = error;
      }
    }
    throw (
      failure ??
      new RepositoryError(
        "REPOSITORY_BLOB_UNKNOWN",
        `no index of ${this.#repositories.length} repositories lists blob ${id}`,
        {
          hint: "Run `restic check` on each; a prune may have removed it.",
        },
      )
    );
  }

  /** See `Repository.place`: of the first that knows it. */
  place(id: string): BlobPlace | undefined {
    for (const repository of this.#repositories) {
      const place = repository.place(id);
      if (place !== undefined) return place;
    }
    return undefined;
  }

  /** Rejects where one of them cannot be read anew; the others are all the same. */
  async refreshIndex(): Promise<void> {
    const results = await Promise.allSettled(this.#repositories.map((repository) => repository.refreshIndex()));
    for (const result of results) if (result.status === "rejected") throw result.reason;
  }
}
