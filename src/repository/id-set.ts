import { hashOf, ID_BYTES, randomSeed, sameId } from "./blob-id.ts";
import { Pause } from "./pause.ts";

const EMPTY = 0xffffffff;
const WORD = Uint32Array.BYTES_PER_ELEMENT;
const SEED_WORDS = ID_BYTES / 2;
/** How many slots there are, and the hash's seed. */
const HEADER = (1 + SEED_WORDS) * WORD;

/**
 * A set of 32-byte ids in shared memory, so that the workers which read index files can leave out every blob that nobody asks
 * for. An open-addressing hash table: about 40 bytes an id.
 */
export class IdSet {
  /** What another thread makes the same set of, with {@link IdSet.from}. */
  readonly shared: SharedArrayBuffer;
  /** A slot holds the number of an id, or EMPTY; at most half of them are in use. */
  readonly #slots: Uint32Array;
  readonly #ids: Buffer;
  readonly #seed: Uint32Array;
  #size = 0;

  private constructor(shared: SharedArrayBuffer, slotCount: number) {
    this.shared = shared;
    this.#seed = new Uint32Array(shared, WORD, SEED_WORDS);
    this.#slots = new Uint32Array(shared, HEADER, slotCount);
    this.#ids = Buffer.from(shared, HEADER + slotCount * WORD);
  }

  /** @param lists ids one behind the other; may repeat. */
  static async of(lists: readonly Uint8Array[]): Promise<IdSet> {
    const most = lists.reduce((sum, list) => sum + list.length / ID_BYTES, 0);
    const slotCount = 2 ** Math.ceil(Math.log2(2 * most + 2));
    const set = new IdSet(new SharedArrayBuffer(HEADER + slotCount * WORD + most * ID_BYTES), slotCount);
    set.#seed.set(randomSeed());
    new Uint32Array(set.shared, 0, 1)[0] = slotCount;
    set.#slots.fill(EMPTY);
    let count = 0;
    const pause = new Pause();
    for (const list of lists) {
      for (let at = 0; at + ID_BYTES <= list.length; at += ID_BYTES) {
        const id = list.subarray(at, at + ID_BYTES);
        const slot = set.#slotOf(id);
        if (set.#slots[slot] === EMPTY) {
          set.#ids.set(id, count * ID_BYTES);
          set.#slots[slot] = count++;
        }
        if (pause.due()) await pause.take();
      }
    }
    set.#size = count;
    return set;
  }

  /** How many ids are in it; known to the thread that made it. */
  get size(): number {
    return this.#size;
  }

  static from(shared: SharedArrayBuffer): IdSet {
    return new IdSet(shared, new Uint32Array(shared, 0, 1)[0] ?? 0);
  }

  /** The ids one behind the other, in the order in which they were given; zeros behind the last. */
  get ids(): Uint8Array {
    return this.#ids;
  }

  has(id: Uint8Array): boolean {
    return this.#slots[this.#slotOf(id)] !== EMPTY;
  }

  /** The slot that holds the id, or the empty one where it would go. */
  #slotOf(id: Uint8Array): number {
    const mask = this.#slots.length - 1;
    for (let slot = hashOf(id, 0, this.#seed) & mask; ; slot = (slot + 1) & mask) {
      const number = this.#slots[slot] ?? EMPTY;
      if (number === EMPTY || sameId(this.#ids, number * ID_BYTES, id, 0)) return slot;
    }
  }
}
