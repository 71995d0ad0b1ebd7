import { Bitmap } from "../bitmap.ts";

export const PAGE = 4096;
export const SECTOR = 512;
export const SECTORS_PER_PAGE = PAGE / SECTOR;
const WHOLE = (1 << SECTORS_PER_PAGE) - 1;

/** What a record in the journal says of a run of pages. Their numbers are the format: never change one. */
export const OP = { full: 1, zero: 2, partial: 3, freeze: 4, drop: 5, seal: 6, unseal: 7 } as const;
export type Op = (typeof OP)[keyof typeof OP];

/** `a` and `b` mean: full, zero: first page and count; partial: page and mask; freeze, drop: generation; seal: epoch. */
export interface JournalRecord {
  readonly op: Op;
  readonly a: number;
  readonly b: number;
}

/**
 * The state of every page, the dirty generations and the seal, as one value that changes only by applying records: what is
 * in memory and what replaying the journal gives are the same by construction (docs/overlay.md).
 */
export class PageMap {
  readonly pages: number;
  readonly full: Bitmap;
  readonly zero: Bitmap;
  readonly partial = new Map<number, number>();
  dirty: Bitmap;
  frozen: Bitmap;
  /** The generation that is frozen, or 0. */
  frozenId = 0;
  /** The last generation that was frozen. */
  lastId = 0;
  /** Whether the frozen generation was frozen while sealed, and the seal stands since. */
  frozenFinal = false;
  sealed = false;

  constructor(pages: number) {
    this.pages = pages;
    this.full = new Bitmap(pages);
    this.zero = new Bitmap(pages);
    this.dirty = new Bitmap(pages);
    this.frozen = new Bitmap(pages);
  }

  /** The sectors of a page that are in the data file, as a mask; zero pages have none. */
  mask(page: number): number {
    if (this.full.has(page)) return WHOLE;
    return this.partial.get(page) ?? 0;
  }

  /** Whether applying the record would change anything; if not, it need not be written. */
  changes({ op, a, b }: JournalRecord): boolean {
    switch (op) {
      case OP.full:
        return this.full.next(false, a, a + b) < a + b || this.dirty.next(false, a, a + b) < a + b;
      case OP.zero:
        return this.zero.next(false, a, a + b) < a + b || this.dirty.next(false, a, a + b) < a + b;
      case OP.partial:
        return (this.mask(a) & b) !== b || !this.dirty.has(a);
      default:
        return true;
    }
  }

  apply({ op, a, b }: JournalRecord): void {
    switch (op) {
      case OP.full:
      case OP.zero:
        this.#become(a, a + b, op);
        return;
      case OP.partial: {
        const mask = this.mask(a) | b;
        if (mask === WHOLE) this.#become(a, a + 1, OP.full);
        else {
          this.partial.set(a, mask);
          this.dirty.add(a);
        }
        return;
      }
      case OP.freeze:
        [this.frozen, this.dirty] = [this.dirty, this.frozen];
        this.dirty.clear();
        this.frozenId = a;
        this.lastId = a;
        this.frozenFinal = this.sealed;
        return;
      case OP.drop:
        this.frozen.clear();
        this.frozenId = 0;
        return;
      case OP.seal:
        this.sealed = true;
        return;
      case OP.unseal:
        this.sealed = false;
        // Writes follow it now.
        this.frozenFinal = false;
        return;
    }
  }

  #become(from: number, to: number, op: typeof OP.full | typeof OP.zero): void {
    for (let page = from; page < to && this.partial.size > 0; page++) this.partial.delete(page);
    this.full.set(op === OP.full, from, to);
    this.zero.set(op === OP.zero, from, to);
    this.dirty.set(true, from, to);
  }
}
