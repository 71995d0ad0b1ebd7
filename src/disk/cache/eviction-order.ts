import { setImmediate as nextTurn } from "node:timers/promises";

/** Lower goes first when room is needed; among equals, what was used longest ago. */
export type EvictionRank = (id: string) => number;

/** An entry as far as its eviction goes. */
export interface Evictable {
  /** Counts up with every use. */
  readonly used: number;
}

/** Entries looked at before others get their turn. */
const LOOKS_AT_ONCE = 4096;
/** One look at all entries chooses this part of them, and never fewer than a few. */
const CHOSEN_PART = 1 / 32;
const CHOSEN_LEAST = 8;
/** Of each higher rank, so many times fewer: meanwhile others may come to a lower one. */
const FEWER_EACH_RANK = 4;
/** Ranks are whole numbers, so rank and use make one number that sorts like the pair. */
const USES = 2 ** 44;

interface Candidate {
  readonly id: string;
  readonly key: number;
}

/**
 * Whom a cache lets go next. A look at all entries chooses some of the lowest rank there is; each is looked at again when its turn
 * comes, and left alone if it was used or became more precious since.
 */
export class EvictionOrder {
  readonly #entries: ReadonlyMap<string, Evictable>;
  readonly #rank: EvictionRank;
  /** The next one is the last. */
  #chosen: Candidate[] = [];
  #looking: Promise<void> | undefined;

  constructor(entries: ReadonlyMap<string, Evictable>, rank: EvictionRank) {
    this.#entries = entries;
    this.#rank = rank;
  }

  /** Undefined where nothing is left. What was given is not given again unless it is still there at the next look. */
  async next(): Promise<string | undefined> {
    for (;;) {
      for (let candidate = this.#chosen.pop(); candidate !== undefined; candidate = this.#chosen.pop()) {
        const entry = this.#entries.get(candidate.id);
        if (entry !== undefined && this.#key(candidate.id, entry) <= candidate.key) return candidate.id;
      }
      if (this.#entries.size === 0) return undefined;
      // Whoever needs room meanwhile waits for the same look.
      this.#looking ??= this.#look().finally(() => {
        this.#looking = undefined;
      });
      await this.#looking;
    }
  }

  async #look(): Promise<void> {
    const ids: string[] = [];
    const keys = new Float64Array(this.#entries.size);
    for (const [id, entry] of this.#entries) {
      // Entries that come while it looks are the newest anyway.
      if (ids.length === keys.length) break;
      keys[ids.length] = this.#key(id, entry);
      ids.push(id);
      if (ids.length % LOOKS_AT_ONCE === 0) await nextTurn();
    }
    const found = keys.subarray(0, ids.length);
    const ordered = found.slice().sort();
    const rank = Math.floor((ordered[0] ?? 0) / USES);
    const count = Math.max(CHOSEN_LEAST, Math.floor((found.length * CHOSEN_PART) / FEWER_EACH_RANK ** rank));
    const highest = Math.min(ordered[count - 1] ?? Number.POSITIVE_INFINITY, (rank + 1) * USES - 1);
    const chosen: Candidate[] = [];
    for (const [index, key] of found.entries()) if (key <= highest) chosen.push({ id: ids[index] ?? "", key });
    this.#chosen = chosen.sort((a, b) => b.key - a.key);
  }

  #key(id: string, entry: Evictable): number {
    return this.#rank(id) * USES + entry.used;
  }
}
