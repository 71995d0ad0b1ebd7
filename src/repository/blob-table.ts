import { hashOf, ID_BYTES, randomSeed, sameId } from "./blob-id.ts";
import { CRYPTO_OVERHEAD } from "./crypto.ts";
import type { IndexEntries } from "./index-file.ts";
import { Pause } from "./pause.ts";
import { release } from "./release.ts";

/** Where one copy of a blob lies. */
export interface BlobLocation {
  /** The pack's name, 64 hex digits. */
  readonly pack: string;
  readonly offset: number;
  /** Bytes in the pack, encryption's overhead included. */
  readonly length: number;
  /** Bytes after decompression; 0 where the blob is stored uncompressed. */
  readonly uncompressedLength: number;
}

const COLUMNS = 4;
const NONE = 0xffffffff;
/** Copies of one blob that are known, at most: a prune leaves a few, if any. */
const COPIES = 8;
const SEED = randomSeed();

/**
 * Blob id → where its copies lie, in typed arrays: 56 bytes a blob, however many there are.
 */
export class BlobTable {
  #ids: Uint8Array;
  /** pack, offset, length, uncompressed length of each entry. */
  #columns: Uint32Array;
  /** The entry with the same hash slot that was added before, or NONE. */
  #next: Uint32Array;
  #slots: Uint32Array;
  #count = 0;
  readonly #most: number;
  readonly #packs: string[] = [];
  readonly #packNumbers = new Map<string, number>();

  /**
   * @param capacity entries that fit without growing; to grow takes a pause of some milliseconds per 100,000 entries
   * @param most entries that there will be: room for more is not made in advance
   */
  constructor(capacity = 1024, most = Number.POSITIVE_INFINITY) {
    this.#most = most;
    this.#ids = new Uint8Array(capacity * ID_BYTES);
    this.#columns = new Uint32Array(capacity * COLUMNS);
    this.#next = new Uint32Array(capacity);
    this.#slots = new Uint32Array(capacity).fill(NONE);
  }

  /** A table of what {@link BlobTable.entries} gave; takes over its memory. */
  static async of({ packs, ids, columns }: IndexEntries): Promise<BlobTable> {
    const count = ids.length / ID_BYTES;
    const table = new BlobTable(0);
    table.#ids = ids;
    table.#columns = columns;
    table.#next = new Uint32Array(count);
    table.#slots = new Uint32Array(count).fill(NONE);
    for (const pack of packs) table.#packNumber(pack);
    const pause = new Pause();
    for (; table.#count < count; table.#count++) {
      table.#link(table.#count);
      if (pause.due()) await pause.take();
    }
    return table;
  }

  /** Copies in the table; a blob in two packs counts twice. */
  get size(): number {
    return this.#count;
  }

  /** Of a blob with very many copies, further ones are left out. */
  add(id: Uint8Array, location: BlobLocation): void {
    if (this.#copies(id) >= COPIES) return;
    if (this.#count === this.#next.length) this.#grow();
    const entry = this.#count++;
    this.#ids.set(id, entry * ID_BYTES);
    const at = entry * COLUMNS;
    this.#columns[at] = this.#packNumber(location.pack);
    this.#columns[at + 1] = location.offset;
    this.#columns[at + 2] = location.length;
    this.#columns[at + 3] = location.uncompressedLength;
    this.#link(entry);
  }

  has(id: Uint8Array): boolean {
    return this.#first(id, 0) !== NONE;
  }

  /** Everything in it, in the order in which it was added; shares the table's memory until more is added. */
  entries(): IndexEntries {
    return {
      packs: this.#packs,
      ids: new Uint8Array(this.#ids.buffer, 0, this.#count * ID_BYTES) as Uint8Array<ArrayBuffer>,
      columns: this.#columns.subarray(0, this.#count * COLUMNS) as Uint32Array<ArrayBuffer>,
    };
  }

  /** Every copy of a blob, the last one added first; empty where it is unknown. */
  locations(id: Uint8Array): BlobLocation[] {
    const found: BlobLocation[] = [];
    for (let entry = this.#first(id, 0); entry !== NONE; entry = this.#from(this.#next[entry] ?? NONE, id, 0)) {
      const at = entry * COLUMNS;
      const [pack = 0, offset = 0, length = 0, uncompressedLength = 0] = this.#columns.subarray(at, at + COLUMNS);
      found.push({ pack: this.#packs[pack] ?? "", offset, length, uncompressedLength });
    }
    return found;
  }

  /**
   * Bytes that the blob at `at` in a list of ids holds when it is decoded.
   *
   * @returns -1 where the blob is unknown, -2 where two copies of it do not agree
   */
  plainLength(ids: Uint8Array, at: number): number {
    let entry = this.#first(ids, at);
    if (entry === NONE) return -1;
    const length = this.#plainLengthOf(entry);
    while (entry !== NONE) {
      if (this.#plainLengthOf(entry) !== length) return -2;
      entry = this.#from(this.#next[entry] ?? NONE, ids, at);
    }
    return length;
  }

  /** Gives its memory back at once; nothing of it may be used any more, what `entries` gave neither. */
  release(): void {
    for (const part of [this.#ids, this.#columns, this.#next, this.#slots]) release(part);
    this.#count = 0;
  }

  #copies(id: Uint8Array): number {
    let count = 0;
    for (let entry = this.#first(id, 0); entry !== NONE; entry = this.#from(this.#next[entry] ?? NONE, id, 0)) count++;
    return count;
  }

  #plainLengthOf(entry: number): number {
    const uncompressed = this.#columns[entry * COLUMNS + 3] ?? 0;
    return uncompressed > 0 ? uncompressed : (this.#columns[entry * COLUMNS + 2] ?? 0) - CRYPTO_OVERHEAD;
  }

  #first(ids: Uint8Array, at: number): number {
    if (this.#slots.length === 0) return NONE;
    return this.#from(this.#slots[this.#slot(ids, at)] ?? NONE, ids, at);
  }

  /** The first entry of the chain from `entry` on that has the id at `at`. */
  #from(entry: number, ids: Uint8Array, at: number): number {
    let found = entry;
    while (found !== NONE && !sameId(this.#ids, found * ID_BYTES, ids, at)) found = this.#next[found] ?? NONE;
    return found;
  }

  #slot(ids: Uint8Array, at: number): number {
    return hashOf(ids, at, SEED) % this.#slots.length;
  }

  #link(entry: number): void {
    const slot = this.#slot(this.#ids, entry * ID_BYTES);
    this.#next[entry] = this.#slots[slot] ?? NONE;
    this.#slots[slot] = entry;
  }

  #grow(): void {
    const capacity = Math.max(1024, this.#count + 1, Math.min(this.#most, Math.ceil(this.#next.length * 1.5)));
    const ids = new Uint8Array(capacity * ID_BYTES);
    ids.set(this.#ids);
    const columns = new Uint32Array(capacity * COLUMNS);
    columns.set(this.#columns);
    for (const part of [this.#ids, this.#columns, this.#next, this.#slots]) release(part);
    this.#ids = ids;
    this.#columns = columns;
    this.#next = new Uint32Array(capacity);
    this.#slots = new Uint32Array(capacity).fill(NONE);
    for (let entry = 0; entry < this.#count; entry++) this.#link(entry);
  }

  #packNumber(pack: string): number {
    const known = this.#packNumbers.get(pack);
    if (known !== undefined) return known;
    this.#packs.push(pack);
    this.#packNumbers.set(pack, this.#packs.length - 1);
    return this.#packs.length - 1;
  }
}
