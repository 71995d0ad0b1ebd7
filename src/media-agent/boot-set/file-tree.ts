import { setImmediate as nextTurn } from "node:timers/promises";
import type { Extent } from "../../disk/block-device.ts";
import { BudgetSpentError } from "./bounded-disk.ts";

const MIB = 1024 * 1024;
const FILE_LIMIT = 128 * MIB;
/** Of all directories together, which are kept: small blocks of a disk can name millions. A real system has a tenth on the way. */
const NAMES_LIMIT = 262_144;
/** Names after which others get their turn. */
const NAMES_AT_ONCE = 256;

/** A file or directory of a file system that nobody vouches for. */
export interface TreeNode {
  readonly kind: "directory" | "file" | "other";
  /** Bytes, as the file system says. */
  readonly size: number;
  /** Where the file system keeps its description (its inode). */
  readonly place: Extent;
}

export interface Directory {
  /** Names, as paths and patterns are given (a file system that ignores case has them in lower case), and what they lead to. */
  readonly entries: ReadonlyMap<string, number>;
  /** Where it lies. */
  readonly extents: readonly Extent[];
}

/** A file system, as far as a boot's files are looked for in it. Every answer is bounded. */
export interface FileTree<Node extends TreeNode> {
  readonly root: number;
  node(number: number): Promise<Node | undefined>;
  directory(node: Node): Promise<Directory>;
  /** Where a file's bytes lie, in its order, at most `limit` of them, with the blocks that say so. */
  extents(node: Node, limit: number): AsyncIterable<Extent>;
}

/** A directory that a boot looks into, and which of its files it reads. */
export interface Look {
  readonly path: string;
  readonly files: RegExp;
  /** How many levels of directories below it are treated the same. */
  readonly depth?: number;
  /** Larger files are left out. */
  readonly fileBytes?: number;
}

/** What the looks find, in their order, with the directories and descriptions on the way. */
export async function* findFiles<Node extends TreeNode>(
  tree: FileTree<Node>,
  looks: readonly Look[],
): AsyncGenerator<Extent> {
  const walk = new Walk(tree);
  walk.goAhead(looks);
  for (const look of looks) {
    const number = await walk.find(look.path);
    yield* walk.touched();
    if (number !== undefined) yield* walk.take(look, number, look.depth ?? 0);
  }
}

/** A directory that was read. */
interface Listing {
  /** Undefined where it is no directory. */
  readonly entries: ReadonlyMap<string, number> | undefined;
  /** Where its description and its entries lie. */
  readonly places: readonly Extent[];
}

/** Walks directories. What it touches on its way is part of the boot set. */
class Walk<Node extends TreeNode> {
  readonly #tree: FileTree<Node>;
  readonly #listings = new Map<number, Promise<Listing>>();
  /** Those of them that count as touched. */
  readonly #entered = new Set<number>();
  readonly #taken = new Set<number>();
  #touched: Extent[] = [];
  #names = 0;
  #looked = 0;

  constructor(tree: FileTree<Node>) {
    this.#tree = tree;
  }

  /** What was touched since this was asked last. */
  touched(): Extent[] {
    const touched = this.#touched;
    this.#touched = [];
    return touched;
  }

  /**
   * Begins to read the directories on the way to all looks, side by side: one after the other, each would wait for the repository. What
   * cannot be read is told to whoever comes there.
   */
  goAhead(looks: readonly Look[]): void {
    for (const { path } of looks) {
      this.#follow(path, async (number) => (await this.#listing(number)).entries).catch(() => undefined);
    }
  }

  /** The directory at a path; links are not followed. */
  find(path: string): Promise<number | undefined> {
    return this.#follow(path, (number) => this.#entries(number));
  }

  async #follow(
    path: string,
    entriesOf: (number: number) => Promise<ReadonlyMap<string, number> | undefined>,
  ): Promise<number | undefined> {
    let number = this.#tree.root;
    for (const name of path.split("/").filter((part) => part !== "")) {
      const child = (await entriesOf(number))?.get(name);
      if (child === undefined) return undefined;
      number = child;
    }
    return (await entriesOf(number)) === undefined ? undefined : number;
  }

  /** The files of a directory that are looked for, and those of its directories down to `depth`; each file once. */
  async *take(look: Look, directory: number, depth: number): AsyncGenerator<Extent> {
    for (const [name, number] of (await this.#entries(directory)) ?? []) {
      if (++this.#looked % NAMES_AT_ONCE === 0) await nextTurn();
      const isWanted = look.files.test(name);
      if ((!isWanted && depth === 0) || this.#taken.has(number)) continue;
      this.#taken.add(number);
      const node = await this.#node(number);
      if (node?.kind === "directory") {
        // Another look may go deeper into it.
        this.#taken.delete(number);
        if (depth > 0) yield* this.take(look, number, depth - 1);
      }
      yield* this.touched();
      if (node?.kind !== "file" || !isWanted || node.size > (look.fileBytes ?? FILE_LIMIT)) continue;
      yield* this.#tree.extents(node, FILE_LIMIT);
    }
  }

  async #node(number: number): Promise<Node | undefined> {
    const node = await this.#tree.node(number);
    if (node !== undefined) this.#touched.push(node.place);
    return node;
  }

  /** Undefined where it is no directory. */
  async #entries(number: number): Promise<ReadonlyMap<string, number> | undefined> {
    const { entries, places } = await this.#listing(number);
    if (!this.#entered.has(number)) this.#touched.push(...places);
    this.#entered.add(number);
    return entries;
  }

  #listing(number: number): Promise<Listing> {
    const known = this.#listings.get(number);
    if (known !== undefined) return known;
    const listing = this.#list(number);
    this.#listings.set(number, listing);
    return listing;
  }

  async #list(number: number): Promise<Listing> {
    const node = await this.#tree.node(number);
    if (node === undefined) return { entries: undefined, places: [] };
    if (node.kind !== "directory") return { entries: undefined, places: [node.place] };
    const { entries, extents } = await this.#tree.directory(node);
    this.#names += entries.size;
    if (this.#names > NAMES_LIMIT) throw new BudgetSpentError("the directories hold too many names");
    return { entries, places: [node.place, ...extents] };
  }
}
