import { setImmediate as nextTurn } from "node:timers/promises";
import type { Extent } from "../../disk/block-device.ts";
import { BudgetSpentError, type Volume } from "./bounded-disk.ts";
import type { BtrfsLayout } from "./btrfs-layout.ts";

const HEADER = 101;
const ITEM = 25;
const POINTER = 33;
const LEVELS = 8;
const NODES_KEPT = 256;
/** Nodes looked at, again and again included: one that is kept costs no read, and may be named by a thousand others. */
const VISITS = 200_000;
/** Of them, after which others get their turn. */
const VISITS_AT_ONCE = 128;

/** An item of a tree. */
export interface BtrfsItem {
  readonly object: number;
  readonly type: number;
  /** The third part of its key. */
  readonly offset: number;
  readonly content: Buffer;
  /** The leaf that holds it, on the device. */
  readonly leaf: Extent;
}

/** Which items are asked for: all of a type, of one object or of all. */
export interface Wanted {
  readonly object?: number;
  readonly type: number;
}

/** Reads the trees of a btrfs file system. */
export class BtrfsTrees {
  /** Where the nodes lie that were looked at. */
  readonly visited = new Map<number, Extent>();
  readonly #volume: Volume;
  readonly #layout: BtrfsLayout;
  readonly #nodes = new Map<number, Buffer>();
  #visits = 0;

  constructor(volume: Volume, layout: BtrfsLayout) {
    this.#volume = volume;
    this.#layout = layout;
  }

  /** The items of the tree with its root at `address`, in order. */
  async *items(address: number, wanted: Wanted, level = LEVELS): AsyncGenerator<BtrfsItem> {
    const node = await this.#node(address);
    const leaf = this.visited.get(address);
    // Levels count down, so there is an end.
    if (node === undefined || leaf === undefined || node.readUInt8(100) >= level) return;
    const own = node.readUInt8(100);
    const size = own === 0 ? ITEM : POINTER;
    const count = Math.min(node.readUInt32LE(96), Math.floor((node.length - HEADER) / size));
    for (let index = 0; index < count; index++) {
      const at = HEADER + index * size;
      const object = Number(node.readBigUInt64LE(at));
      const type = node.readUInt8(at + 8);
      if (isBehind(object, type, wanted)) return;
      if (own > 0) {
        // Its items begin with this key and end before the next pointer's.
        const next = at + POINTER;
        const isBefore =
          index + 1 < count && isInFront(Number(node.readBigUInt64LE(next)), node.readUInt8(next + 8), wanted);
        if (!isBefore) yield* this.items(Number(node.readBigUInt64LE(at + 17)), wanted, own);
        continue;
      }
      if (type !== wanted.type || (wanted.object !== undefined && object !== wanted.object)) continue;
      const start = HEADER + node.readUInt32LE(at + 17);
      const end = start + node.readUInt32LE(at + 21);
      if (end > node.length) continue;
      yield { object, type, offset: Number(node.readBigUInt64LE(at + 9)), content: node.subarray(start, end), leaf };
    }
  }

  async first(address: number, wanted: Wanted): Promise<BtrfsItem | undefined> {
    for await (const item of this.items(address, wanted)) return item;
    return undefined;
  }

  async #node(address: number): Promise<Buffer | undefined> {
    if (++this.#visits > VISITS) throw new BudgetSpentError("the trees name the same nodes too often");
    if (this.#visits % VISITS_AT_ONCE === 0) await nextTurn();
    const known = this.#nodes.get(address);
    if (known !== undefined) return known;
    const { chunks, nodeBytes } = this.#layout;
    const place = chunks.place(address, nodeBytes);
    const node = place === undefined ? undefined : await this.#volume.read(place.offset, nodeBytes);
    if (place === undefined || node === undefined || Number(node.readBigUInt64LE(48)) !== address) return undefined;
    this.visited.set(address, place);
    this.#nodes.set(address, node);
    const [oldest] = this.#nodes.keys();
    if (this.#nodes.size > NODES_KEPT && oldest !== undefined) this.#nodes.delete(oldest);
    return node;
  }
}

/** Whether everything from this key on lies behind what is wanted. */
function isBehind(object: number, type: number, wanted: Wanted): boolean {
  if (wanted.object === undefined) return false;
  return object > wanted.object || (object === wanted.object && type > wanted.type);
}

/** Whether this key still lies in front of what is wanted, so that what ends with it does too. */
function isInFront(object: number, type: number, wanted: Wanted): boolean {
  if (wanted.object === undefined) return false;
  return object < wanted.object || (object === wanted.object && type < wanted.type);
}
