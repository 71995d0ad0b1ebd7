import { ID_BYTES } from "./blob-table.ts";

/**
 * A sorted set of 32-byte ids in shared memory, so that the workers which read index files can leave out every blob that
 * nobody asks for. Immutable once made.
 */
export class IdSet {
  readonly shared: SharedArrayBuffer;
  readonly #ids: Buffer;

  private constructor(shared: SharedArrayBuffer) {
    this.shared = shared;
    this.#ids = Buffer.from(shared);
  }

  /** @param lists ids one behind the other; may repeat. */
  static of(lists: readonly Buffer[]): IdSet {
    const ids: Buffer[] = [];
    for (const list of lists) {
      for (let at = 0; at < list.length; at += ID_BYTES) ids.push(list.subarray(at, at + ID_BYTES));
    }
    ids.sort(Buffer.compare);
    const unique = ids.filter((id, index) => index === 0 || !id.equals(ids[index - 1] as Buffer));
    const shared = new SharedArrayBuffer(unique.length * ID_BYTES);
    const view = Buffer.from(shared);
    for (const [index, id] of unique.entries()) view.set(id, index * ID_BYTES);
    return new IdSet(shared);
  }

  static from(shared: SharedArrayBuffer): IdSet {
    return new IdSet(shared);
  }

  get size(): number {
    return this.#ids.length / ID_BYTES;
  }

  has(id: Uint8Array): boolean {
    let low = 0;
    let high = this.size;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const order = this.#ids.compare(id, 0, ID_BYTES, middle * ID_BYTES, (middle + 1) * ID_BYTES);
      if (order === 0) return true;
      if (order < 0) low = middle + 1;
      else high = middle;
    }
    return false;
  }
}
