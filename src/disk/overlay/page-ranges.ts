import { type Deferred, deferred } from "../../base/deferred.ts";

interface Range {
  readonly first: number;
  readonly last: number;
}

interface Held extends Range {
  readonly released: Deferred<void>;
}

/** Lets writes that touch a common page go one after the other, in the order in which they came. */
export class PageRanges {
  readonly #held = new Set<Held>();

  /** Waits for every earlier holder of a page in `[first, last]`; call what it gives back exactly once. */
  async hold(first: number, last: number): Promise<() => void> {
    const before = [...this.#held].filter((other) => other.first <= last && first <= other.last);
    const own: Held = { first, last, released: deferred() };
    this.#held.add(own);
    for (const other of before) await other.released.promise;
    return () => {
      this.#held.delete(own);
      own.released.resolve();
    };
  }

  /** Those who hold now, and those who wait for their turn. */
  get held(): Iterable<Range> {
    return this.#held;
  }

  /** Resolves when everybody who holds now has let go. */
  async idle(): Promise<void> {
    await Promise.all([...this.#held].map((held) => held.released.promise));
  }
}
