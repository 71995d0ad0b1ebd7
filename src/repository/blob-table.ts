import { ID_BYTES } from "./blob-id.ts";
import { CRYPTO_OVERHEAD } from "./crypto.ts";
import { grown, words32 } from "./grown.ts";
import { IdTable } from "./id-table.ts";
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

/** The memory of a table, to be kept elsewhere; shared with it. */
export interface TableParts {
  /** Ids of the packs, one behind the other. */
  readonly packs: Uint8Array;
  /** Ids of the blobs; none where the table is one of the blobs in another table. */
  readonly ids: Uint8Array;
  /** The first place of each blob; see {@link BlobTable}. */
  readonly places: Uint32Array<ArrayBuffer>;
  /** For each blob, the row of the place that was added last and one more; none where no blob has a second place. */
  readonly last: Uint32Array<ArrayBuffer>;
  /** Further places. */
  readonly rows: Uint32Array<ArrayBuffer>;
}

/** pack, offset, length, uncompressed length; a length of 0 stands for no place. */
const PLACE = 4;
/** A place, and the row of the place of the same blob that was added before and one more; 0 is its first place. */
const ROW = PLACE + 1;
/** Copies of one blob that are known, at most: a prune leaves a few, if any. */
const COPIES = 8;

interface Options {
  /** Blobs that fit without growing. */
  readonly room?: number | undefined;
  /** The blobs that it is about, in a table that somebody else holds; without one, it takes whatever is added. */
  readonly of?: IdTable | undefined;
}

/**
 * Blob id → where its copies lie, in typed arrays: 16 bytes a blob and its pack's 40 bytes, beside what the ids take in their table.
 */
export class BlobTable {
  readonly #ids: IdTable;
  readonly #isOwn: boolean;
  /** Blobs that it has room for. */
  #room: number;
  readonly #packs: IdTable;
  #places: Uint32Array<ArrayBuffer>;
  #last: Uint32Array<ArrayBuffer>;
  #rows: Uint32Array<ArrayBuffer>;
  #rowCount = 0;
  #size = 0;

  constructor({ room = 1024, of }: Options = {}) {
    this.#isOwn = of === undefined;
    this.#ids = of ?? IdTable.withRoom(room);
    this.#room = of?.size ?? room;
    this.#packs = IdTable.withRoom(64);
    this.#places = words32(this.#room * PLACE);
    this.#last = new Uint32Array(0);
    this.#rows = new Uint32Array(0);
  }

  /**
   * A table of what {@link BlobTable.parts} gave; takes over its memory.
   *
   * @param of the table whose blobs it is about, where the parts hold no ids
   */
  static async from({ packs, ids, places, last, rows }: TableParts, of?: IdTable): Promise<BlobTable> {
    const table = new BlobTable({ room: 0, of });
    await table.#packs.addAll(packs);
    if (of === undefined) await table.#ids.addAll(ids);
    table.#room = places.length / PLACE;
    release(table.#places);
    table.#places = places;
    table.#last = last;
    table.#rows = rows;
    table.#rowCount = rows.length / ROW;
    table.#size = table.#rowCount;
    const pause = new Pause();
    for (let at = 2; at < places.length; at += PLACE) {
      if (places[at] !== 0) table.#size++;
      if (pause.due()) await pause.take();
    }
    return table;
  }

  /** Copies in the table; a blob in two packs counts twice. */
  get size(): number {
    return this.#size;
  }

  /**
   * Adds what was kept of an index file, and takes over its memory. One call at a time. Of a blob with very many copies, further
   * ones are left out.
   *
   * @param most copies; with more in the table, the rest is left out
   */
  async add({ packs, ids, numbers, columns }: IndexEntries, most = Number.POSITIVE_INFINITY): Promise<void> {
    const count = columns.length / PLACE;
    const packNumbers = await this.#packs.addAll(packs);
    if (this.#isOwn) await this.#reserve(count);
    const pause = new Pause();
    for (let index = 0; index < count && this.#size <= most; index++) {
      const number = this.#isOwn ? this.#ids.add(ids, index * ID_BYTES) : (numbers[index] ?? this.#room);
      const at = index * PLACE;
      columns[at] = packNumbers[columns[at] ?? 0] ?? 0;
      // The table of the blobs may have grown since the file was read; this one is about what was in it before.
      if (number < this.#room && !this.#addFirst(number, columns, at)) await this.#addCopy(number, columns, at);
      if (pause.due()) await pause.take();
    }
    for (const part of [packs, ids, numbers, columns]) release(part);
  }

  has(id: Uint8Array): boolean {
    return this.#lengthAt(this.#ids.find(id)) !== 0;
  }

  /** Every copy of a blob, the last one added first; empty where it is unknown. */
  locations(id: Uint8Array): BlobLocation[] {
    const number = this.#ids.find(id);
    if (this.#lengthAt(number) === 0) return [];
    const found: BlobLocation[] = [];
    for (let row = this.#last[number] ?? 0; row !== 0; row = this.#before(row)) {
      found.push(this.#location(this.#rows, (row - 1) * ROW));
    }
    found.push(this.#location(this.#places, number * PLACE));
    return found;
  }

  /**
   * Bytes that the blob at `at` in a list of ids holds when it is decoded.
   *
   * @returns -1 where the blob is unknown, -2 where two copies of it do not agree
   */
  plainLength(ids: Uint8Array, at: number): number {
    const number = this.#ids.find(ids, at);
    if (this.#lengthAt(number) === 0) return -1;
    const length = plainLengthOf(this.#places, number * PLACE);
    for (let row = this.#last[number] ?? 0; row !== 0; row = this.#before(row)) {
      if (plainLengthOf(this.#rows, (row - 1) * ROW) !== length) return -2;
    }
    return length;
  }

  /** Its memory, while nothing is added. */
  parts(): TableParts {
    const count = this.#isOwn ? this.#ids.size : this.#room;
    return {
      packs: this.#packs.ids,
      ids: this.#isOwn ? this.#ids.ids : new Uint8Array(0),
      places: this.#places.subarray(0, count * PLACE),
      last: this.#last.subarray(0, count),
      rows: this.#rows.subarray(0, this.#rowCount * ROW),
    };
  }

  /** Gives its memory back at once; nothing of it may be used any more, its parts neither. */
  release(): void {
    for (const part of [this.#places, this.#last, this.#rows]) release(part);
    this.#packs.release();
    if (this.#isOwn) this.#ids.release();
    this.#size = 0;
  }

  /** 0 where the blob is unknown. */
  #lengthAt(number: number): number {
    return number < 0 ? 0 : (this.#places[number * PLACE + 2] ?? 0);
  }

  #before(row: number): number {
    return this.#rows[(row - 1) * ROW + PLACE] ?? 0;
  }

  #location(from: Uint32Array, at: number): BlobLocation {
    const [pack = 0, offset = 0, length = 0, uncompressedLength = 0] = from.subarray(at, at + PLACE);
    return { pack: this.#packs.hex(pack), offset, length, uncompressedLength };
  }

  /** False where the blob has a place already. */
  #addFirst(number: number, columns: Uint32Array, at: number): boolean {
    const place = number * PLACE;
    if (this.#places[place + 2] !== 0) return false;
    for (let index = 0; index < PLACE; index++) this.#places[place + index] = columns[at + index] ?? 0;
    this.#size++;
    return true;
  }

  async #addCopy(number: number, columns: Uint32Array, at: number): Promise<void> {
    this.#last = await grown(this.#last, number + 1, this.#room);
    const last = this.#last[number] ?? 0;
    let copies = 1;
    for (let row = last; row !== 0; row = this.#before(row)) copies++;
    if (copies >= COPIES) return;
    const row = this.#rowCount;
    this.#rows = await grown(this.#rows, (row + 1) * ROW);
    for (let index = 0; index < PLACE; index++) this.#rows[row * ROW + index] = columns[at + index] ?? 0;
    this.#rows[row * ROW + PLACE] = last;
    this.#rowCount++;
    this.#last[number] = this.#rowCount;
    this.#size++;
  }

  async #reserve(more: number): Promise<void> {
    await this.#ids.reserve(more);
    this.#room = this.#ids.capacity;
    this.#places = await grown(this.#places, this.#room * PLACE);
  }
}

function plainLengthOf(from: Uint32Array, at: number): number {
  const uncompressed = from[at + 3] ?? 0;
  return uncompressed > 0 ? uncompressed : (from[at + 2] ?? 0) - CRYPTO_OVERHEAD;
}
