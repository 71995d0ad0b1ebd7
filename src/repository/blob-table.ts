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

export const ID_BYTES = 32;
const COLUMNS = 4;
const NONE = 0xffffffff;

/**
 * Blob id → where its copies lie, in typed arrays: about 60 bytes a blob, however many there are. Ids are SHA-256 hashes, so
 * their first bytes serve as the table's hash as they are.
 */
export class BlobTable {
  #ids = Buffer.alloc(0);
  /** pack, offset, length, uncompressed length of each entry. */
  #columns = new Uint32Array(0);
  /** The entry with the same hash slot that was added before, or NONE. */
  #next = new Uint32Array(0);
  #slots = new Uint32Array(0);
  #count = 0;
  readonly #packs: string[] = [];
  readonly #packNumbers = new Map<string, number>();

  /** Copies in the table; a blob in two packs counts twice. */
  get size(): number {
    return this.#count;
  }

  add(id: Uint8Array, location: BlobLocation): void {
    if (this.#count === this.#next.length) this.#grow();
    const entry = this.#count++;
    this.#ids.set(id, entry * ID_BYTES);
    this.#columns.set(
      [this.#packNumber(location.pack), location.offset, location.length, location.uncompressedLength],
      entry * COLUMNS,
    );
    this.#link(entry);
  }

  has(id: Uint8Array): boolean {
    return this.#first(id) !== NONE;
  }

  /** Every copy of a blob, the last one added first; empty where it is unknown. */
  locations(id: Uint8Array): BlobLocation[] {
    const found: BlobLocation[] = [];
    for (let entry = this.#first(id); entry !== NONE; entry = this.#from(this.#next[entry] ?? NONE, id)) {
      const at = entry * COLUMNS;
      const [pack = 0, offset = 0, length = 0, uncompressedLength = 0] = this.#columns.subarray(at, at + COLUMNS);
      found.push({ pack: this.#packs[pack] ?? "", offset, length, uncompressedLength });
    }
    return found;
  }

  #first(id: Uint8Array): number {
    if (this.#slots.length === 0) return NONE;
    return this.#from(this.#slots[this.#slot(id, 0)] ?? NONE, id);
  }

  /** The first entry of the chain from `entry` on that has this id. */
  #from(entry: number, id: Uint8Array): number {
    let at = entry;
    while (at !== NONE) {
      if (this.#ids.compare(id, 0, ID_BYTES, at * ID_BYTES, (at + 1) * ID_BYTES) === 0) return at;
      at = this.#next[at] ?? NONE;
    }
    return NONE;
  }

  #slot(ids: Uint8Array, at: number): number {
    const hash = (ids[at] ?? 0) | ((ids[at + 1] ?? 0) << 8) | ((ids[at + 2] ?? 0) << 16) | ((ids[at + 3] ?? 0) << 24);
    return (hash >>> 0) % this.#slots.length;
  }

  #link(entry: number): void {
    const slot = this.#slot(this.#ids, entry * ID_BYTES);
    this.#next[entry] = this.#slots[slot] ?? NONE;
    this.#slots[slot] = entry;
  }

  #grow(): void {
    const capacity = Math.max(1024, Math.ceil(this.#next.length * 1.5));
    const ids = Buffer.alloc(capacity * ID_BYTES);
    this.#ids.copy(ids);
    const columns = new Uint32Array(capacity * COLUMNS);
    columns.set(this.#columns);
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
