import { hashOf, ID_BYTES, randomSeed, sameId } from "./blob-id.ts";
import { copied } from "./grown.ts";
import { Pause } from "./pause.ts";
import { release, roomFor } from "./release.ts";

const WORD = Uint32Array.BYTES_PER_ELEMENT;
const SEED_WORDS = ID_BYTES / 2;
/** How many slots there are, how many ids fit, and the hash's seed. */
const HEADER_WORDS = 2 + SEED_WORDS;
const LEAST_SLOTS = 16;

/** The memory of an {@link IdTable}; in another thread, {@link IdTable.from} makes the same table of it. */
export type IdMemory = ArrayBuffer | SharedArrayBuffer;

/**
 * Numbers 32-byte ids: 0 for the first one that is added, and so on. An open-addressing hash table of 40 to 50 bytes an id, in one
 * piece of memory that threads may share. What is not used of it was never touched, so it takes no memory either.
 */
export class IdTable {
  readonly #isShared: boolean;
  #memory: IdMemory;
  /** A slot holds the number of an id and one more, or 0 where it is empty; at most two thirds of them are in use. */
  #slots: Uint32Array;
  #ids: Buffer;
  #seed: Uint32Array;
  #size = 0;

  private constructor(memory: IdMemory) {
    this.#isShared = memory instanceof SharedArrayBuffer;
    [this.#slots, this.#ids, this.#seed] = partsOf(memory);
    this.#memory = memory;
  }

  /** @param isShared whether other threads look into it: then its memory goes back only when it is garbage everywhere */
  static withRoom(capacity: number, isShared = false): IdTable {
    return new IdTable(newMemory(capacity, isShared, randomSeed()));
  }

  /** A table in shared memory of what the lists hold, ids one behind the other; they may repeat. */
  static async of(lists: readonly Uint8Array[]): Promise<IdTable> {
    const most = lists.reduce((sum, list) => sum + list.length / ID_BYTES, 0);
    const table = IdTable.withRoom(most, true);
    for (const list of lists) await table.addAll(list);
    return table;
  }

  /** What another thread has, as it is now; how many are in it, it does not know. */
  static from(memory: IdMemory): IdTable {
    return new IdTable(memory);
  }

  /** To be sent to other threads; another one after {@link reserve}. */
  get memory(): IdMemory {
    return this.#memory;
  }

  /** How many ids are in it. */
  get size(): number {
    return this.#size;
  }

  /** How many there is room for. */
  get capacity(): number {
    return this.#ids.length / ID_BYTES;
  }

  /** The ids one behind the other in the order of their numbers. */
  get ids(): Buffer {
    return this.#ids.subarray(0, this.#size * ID_BYTES);
  }

  /** The number of the id at `at` in a list of ids; -1 where it is not in the table. */
  find(ids: Uint8Array, at = 0): number {
    return (this.#slots[this.#slotOf(ids, at)] ?? 0) - 1;
  }

  /** 64 hex digits. */
  hex(number: number): string {
    return this.#ids.toString("hex", number * ID_BYTES, (number + 1) * ID_BYTES);
  }

  /** Adds the id at `at` in a list of ids, if it is not there yet, and gives back its number. There must be room. */
  add(ids: Uint8Array, at = 0): number {
    const slot = this.#slotOf(ids, at);
    const known = this.#slots[slot] ?? 0;
    if (known > 0) return known - 1;
    const number = this.#size;
    if (number === this.capacity) throw new RangeError("the table is full");
    const place = number * ID_BYTES;
    for (let index = 0; index < ID_BYTES; index++) this.#ids[place + index] = ids[at + index] ?? 0;
    this.#size++;
    this.#slots[slot] = this.#size;
    return number;
  }

  /** Makes room, adds all ids of a list, and gives back their numbers. Nobody else may add until it is done. */
  async addAll(list: Uint8Array): Promise<Uint32Array<ArrayBuffer>> {
    const count = list.length / ID_BYTES;
    await this.reserve(count);
    const numbers = new Uint32Array(count);
    const pause = new Pause();
    for (let index = 0; index < count; index++) {
      numbers[index] = this.add(list, index * ID_BYTES);
      if (pause.due()) await pause.take();
    }
    return numbers;
  }

  /** Makes room for `more` ids. It may be looked into meanwhile, but nobody else may add. */
  async reserve(more: number): Promise<void> {
    const wanted = this.#size + more;
    if (wanted <= this.capacity) return;
    const capacity = Math.max(wanted, Math.ceil(this.capacity * 1.5));
    const larger = new IdTable(newMemory(capacity, this.#isShared, this.#seed));
    await copied(this.ids, larger.#ids);
    const pause = new Pause();
    for (; larger.#size < this.#size; ) {
      const slot = larger.#slotOf(larger.#ids, larger.#size * ID_BYTES);
      larger.#size++;
      larger.#slots[slot] = larger.#size;
      if (pause.due()) await pause.take();
    }
    release(this.#ids);
    this.#memory = larger.#memory;
    this.#slots = larger.#slots;
    this.#ids = larger.#ids;
    this.#seed = larger.#seed;
  }

  /** Gives its memory back, at once where it is not shared; it may not be used any more. */
  release(): void {
    release(this.#ids);
    this.#size = 0;
  }

  /** The slot that holds the id, or the empty one where it would go. */
  #slotOf(ids: Uint8Array, at: number): number {
    const slots = this.#slots;
    const mask = slots.length - 1;
    for (let slot = hashOf(ids, at, this.#seed) & mask; ; slot = (slot + 1) & mask) {
      const number = slots[slot] ?? 0;
      if (number === 0 || sameId(this.#ids, (number - 1) * ID_BYTES, ids, at)) return slot;
    }
  }
}

function newMemory(capacity: number, isShared: boolean, seed: Uint32Array): IdMemory {
  const slotCount = Math.max(LEAST_SLOTS, 2 ** Math.ceil(Math.log2(1.5 * capacity + 1)));
  const bytes = roomFor((HEADER_WORDS + slotCount) * WORD + capacity * ID_BYTES);
  const memory = isShared ? new SharedArrayBuffer(bytes) : new ArrayBuffer(bytes);
  const header = new Uint32Array(memory, 0, HEADER_WORDS);
  header[0] = slotCount;
  header[1] = capacity;
  header.set(seed, 2);
  return memory;
}

function partsOf(memory: IdMemory): [slots: Uint32Array, ids: Buffer, seed: Uint32Array] {
  const [slotCount = 0, capacity = 0] = new Uint32Array(memory, 0, 2);
  const idsAt = (HEADER_WORDS + slotCount) * WORD;
  return [
    new Uint32Array(memory, HEADER_WORDS * WORD, slotCount),
    Buffer.from(memory, idsAt, capacity * ID_BYTES),
    new Uint32Array(memory, 2 * WORD, SEED_WORDS),
  ];
}
