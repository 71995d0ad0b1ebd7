import type { Repository } from "../repository/repository.ts";

/** A repository that is being opened before there is anybody to use it. */
export class EarlyOpening {
  /** Resolves when its key is being derived, on a thread of its own, or when it will not come to that. */
  readonly deriving: Promise<void>;
  #opening: Promise<Repository> | undefined;

  constructor(open: (onDeriving: () => void) => Promise<Repository>) {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.deriving = promise;
    const opening = open(resolve);
    this.#opening = opening;
    // Whoever takes it is told; where nobody does, something else has failed that is told.
    opening.then(
      () => resolve(),
      () => resolve(),
    );
  }

  /** Whoever takes it closes it. Undefined from the second time on: what failed is begun anew. */
  take(): Promise<Repository> | undefined {
    const opening = this.#opening;
    this.#opening = undefined;
    return opening;
  }

  /** Closes it as soon as it is open, unless somebody took it. */
  close(): void {
    this.take()?.then(
      (repository) => repository.close(),
      () => undefined,
    );
  }
}
